import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { ApiClient } from "./api-client.ts";
import { cgroupName, type ClusterSettings } from "./settings.ts";

/** `name`, in the namespace default, or `namespace/name`. */
export type PodReference = string;

/** As much of a Pod as tests ask about. */
export interface PodObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly deletionTimestamp?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: { readonly nodeName?: string };
  readonly status: {
    readonly phase: string;
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip: string }[];
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[];
    readonly containerStatuses?: readonly {
      readonly name: string;
      readonly containerID?: string;
      readonly restartCount: number;
      readonly ready: boolean;
    }[];
  };
}

const CGROUPS = "/sys/fs/cgroup";

export function podReference(reference: PodReference): { readonly namespace: string; readonly name: string } {
  const [first = "", second] = reference.split("/");
  return second === undefined ? { namespace: "default", name: first } : { namespace: first, name: second };
}

export async function getPod(api: ApiClient, reference: PodReference): Promise<PodObject> {
  const { namespace, name } = podReference(reference);
  const pod = await api.get<PodObject>(`/api/v1/namespaces/${namespace}/pods/${name}`);
  if (pod === undefined) throw new Error(`there is no pod ${namespace}/${name}`);
  return pod;
}

/**
 * The first process of a pod's container (by default its first), as the caller numbers processes: its namespaces can be
 * entered without the API server and without kubelet. Throws when the container does not run.
 */
export function containerPid(settings: ClusterSettings, pod: PodObject, container?: string): number {
  const folder = containerFolder(settings, pod, container);
  const [first] = folder === undefined ? [] : processesOf(folder);
  if (first !== undefined) return first;
  throw new Error(`no process of the pod ${pod.metadata.namespace}/${pod.metadata.name} runs`);
}

/**
 * The control group of a pod's container (by default its first); undefined when it is gone. Its parent folder is the
 * pod's, which holds one for the sandbox too. Throws when the container was never started.
 */
export function containerFolder(settings: ClusterSettings, pod: PodObject, container?: string): string | undefined {
  const statuses = pod.status.containerStatuses ?? [];
  const status = container === undefined ? statuses[0] : statuses.find(({ name }) => name === container);
  const id = /^containerd:\/\/([0-9a-f]+)$/.exec(status?.containerID ?? "")?.[1];
  const { namespace, name } = pod.metadata;
  if (id === undefined)
    throw new Error(`the container ${container ?? ""} of the pod ${namespace}/${name} does not run`);
  const cgroup = cgroupName(settings.name, Number(/\d+$/.exec(pod.spec.nodeName ?? "")?.[0]));
  // Version 1 has the same tree in each hierarchy; version 2 has one.
  for (const root of [join(CGROUPS, "pids", cgroup), join(CGROUPS, cgroup)]) {
    const folder = findFolder(root, id);
    if (folder !== undefined) return folder;
  }
  return undefined;
}

/** The processes of a control group, as the caller numbers them. */
export function processesOf(folder: string): number[] {
  return readFileSync(join(folder, "cgroup.procs"), "utf8").split("\n").filter(Boolean).map(Number);
}

/** Level by level: other folders may go at any moment. */
function findFolder(root: string, name: string): string | undefined {
  for (let level = [root]; level.length > 0; ) {
    level = level.flatMap((folder) => foldersIn(folder).map((inner) => join(folder, inner)));
    const found = level.find((folder) => basename(folder) === name);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Names of the folders in a folder; none when it has just gone. */
export function foldersIn(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch {
    return [];
  }
}
