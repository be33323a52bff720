import { basename, dirname, join } from "node:path";
import { until } from "@tulle/lab";
import { containerFolder, foldersIn, type PodObject, processesOf } from "./containers.ts";
import type { TestCluster } from "./test-cluster.ts";

/** Shorter than any program needs to start and do something. */
const LOOK_EVERY_MS = 30;
const END_LIMIT_MS = 60_000;

/** Kills the container of a pod (its first), once: kubelet starts it again. */
export function killContainer(cluster: TestCluster, pod: PodObject): void {
  killAll(folderOf(cluster, pod));
}

/** Kills everything of a pod, its sandbox too: kubelet makes it anew, with another network. */
export function killPod(cluster: TestCluster, pod: PodObject): void {
  const folder = dirname(folderOf(cluster, pod));
  for (const name of foldersIn(folder)) killAll(join(folder, name));
}

/** Whether anything but the sandbox runs in a pod; works without API server and kubelet. `pod` as it was before. */
export class PodWatch {
  readonly #folder: string;
  readonly #sandboxes: ReadonlySet<string>;

  constructor(cluster: TestCluster, pod: PodObject) {
    const container = folderOf(cluster, pod);
    this.#folder = dirname(container);
    this.#sandboxes = new Set(foldersIn(this.#folder).filter((name) => name !== basename(container)));
  }

  /** Folders of containers with a process, without that of the sandbox that there was at first. */
  get running(): string[] {
    return foldersIn(this.#folder)
      .filter((name) => !this.#sandboxes.has(name))
      .map((name) => join(this.#folder, name))
      .filter((folder) => processes(folder).length > 0);
  }
}

/**
 * A container (the first of a pod) that is killed, and again whenever it is started. It cannot come back before `end`,
 * which deletes the pod: its successor starts without kubelet's waiting time after crashes.
 */
export class Outage implements AsyncDisposable {
  readonly #cluster: TestCluster;
  readonly #pod: PodObject;
  readonly #timer: NodeJS.Timeout;
  #ended: Promise<void> | undefined;

  private constructor(cluster: TestCluster, pod: PodObject) {
    this.#cluster = cluster;
    this.#pod = pod;
    const watch = new PodWatch(cluster, pod);
    const kill = () => {
      for (const folder of watch.running) killAll(folder);
    };
    kill();
    this.#timer = setInterval(kill, LOOK_EVERY_MS);
  }

  static start(cluster: TestCluster, pod: PodObject): Outage {
    return new Outage(cluster, pod);
  }

  /** Resolves when the pod is gone; its successor may still be starting. Idempotent. */
  end(): Promise<void> {
    this.#ended ??= this.#end();
    return this.#ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }

  async #end(): Promise<void> {
    const { name, namespace } = this.#pod.metadata;
    try {
      await this.#cluster.kubectl(["delete", "pod", name, "-n", namespace, "--wait=false", "--ignore-not-found"]);
    } finally {
      clearInterval(this.#timer);
    }
    const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
    await until(async () => (await this.#cluster.get(path)) === undefined, {
      what: `${name} to be gone`,
      timeoutMs: END_LIMIT_MS,
      intervalMs: 100,
    });
  }
}

function folderOf(cluster: TestCluster, pod: PodObject): string {
  const folder = containerFolder(cluster.cluster.settings, pod);
  if (folder === undefined) throw new Error(`the pod ${pod.metadata.namespace}/${pod.metadata.name} does not run`);
  return folder;
}

function killAll(folder: string): void {
  for (const pid of processes(folder)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }
}

function processes(folder: string): number[] {
  try {
    return processesOf(folder);
  } catch {
    // The control group has just gone.
    return [];
  }
}
