import { readFileSync } from "node:fs";
import { PID_ANNOTATION } from "@tulle/base";
import type { PeerCredentials } from "@tulle/linux";
import { type Store, StoreError } from "@tulle/store";
import { ZTUNNEL_APP } from "@tulle/base/enrolment";
import { annotationOf, isFinished, PODS, type Pod, uidOf } from "../objects.ts";

/** Who may connect to ZDS: root, in this node's ztunnel pod. Nobody else is told of pods, or handed their namespaces. */

export interface AdmissionOptions {
  readonly store: Pick<Store, "list">;
  /** Pods of this node, as the watch knows them. */
  readonly known: () => Iterable<Pod>;
  readonly nodeName: string;
  readonly systemNamespace: string;
  /**
   * `cgroup`: the process is in a cgroup of the pod (needs the host's pids). `annotation`: the pod names the process in
   * `tulle.dev/pid` (the local mesh, whose pods are no containers).
   */
  readonly check: "cgroup" | "annotation";
  /** Text of `/proc/PID/cgroup`. Default: this machine's. */
  readonly readCgroup?: (pid: number) => string;
  /** Monotonic milliseconds. Default: this machine's. */
  readonly now?: () => number;
}

/** A process that is none of ours may connect again and again; the API shall not hear of each (spec: control-plane §7.5). */
const MAX_ASKS_PER_SECOND = 5;

/** Uids of pods in paths of cgroups: with systemd's driver hyphens are underscores. */
const POD_UID = /pod([0-9a-f]{8}([-_])[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{12})(?=[./]|$)/g;

/** Undefined: it is this node's ztunnel; else why not. */
export function ztunnelAdmission(options: AdmissionOptions): (peer: PeerCredentials) => Promise<string | undefined> {
  const { store, known, nodeName, systemNamespace, check, readCgroup = cgroupOf } = options;
  const { now = () => performance.now() } = options;
  /** When the last questions were asked. */
  const asks: number[] = [];
  const isZtunnel = (pod: Pod) =>
    pod.metadata.namespace === systemNamespace &&
    pod.metadata.labels?.[ZTUNNEL_APP.key] === ZTUNNEL_APP.value &&
    pod.spec?.nodeName === nodeName &&
    !isFinished(pod);
  return async ({ pid, uid }) => {
    if (uid !== 0) return "it does not run as root";
    if (pid <= 0) return "its process is not visible here: the node agent needs hostPID";
    const uids = check === "cgroup" ? podUidsOf(readCgroup(pid)) : undefined;
    if (uids?.length === 0) return "it is in no pod";
    const isIts = (pod: Pod) =>
      isZtunnel(pod) &&
      (uids === undefined ? annotationOf(pod, PID_ANNOTATION) === String(pid) : uids.includes(uidOf(pod)));
    // A container that starts again is of a pod that is known, whether or not the API can be asked.
    if (Iterator.from(known()).some(isIts)) return undefined;
    // One that has just been made may be known to the API only.
    const selection = {
      namespace: systemNamespace,
      labels: { [ZTUNNEL_APP.key]: ZTUNNEL_APP.value },
      fields: { "spec.nodeName": nodeName },
    };
    const nobody = `it is in no pod of ${systemNamespace} with ${ZTUNNEL_APP.key}=${ZTUNNEL_APP.value} on this node`;
    const at = now();
    if (at - (asks.at(-MAX_ASKS_PER_SECOND) ?? Number.NEGATIVE_INFINITY) < 1000) {
      return `${nobody} that is known, and ${MAX_ASKS_PER_SECOND} others were asked for within a second: try again`;
    }
    asks.splice(0, asks.length - MAX_ASKS_PER_SECOND + 1);
    asks.push(at);
    try {
      return (await store.list(PODS, selection)).some(isIts) ? undefined : nobody;
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== "UNAVAILABLE") throw error;
      return `${nobody} that is known, and the API cannot be asked for others: ${error.message}`;
    }
  };
}

/** Exported for tests: uids of the innermost pods that `/proc/PID/cgroup` names, one for each hierarchy. */
export function podUidsOf(cgroup: string): string[] {
  const uids = cgroup.split("\n").flatMap((line) => {
    // A pod's process may make cgroups of its own below its pod's, never above: the first one counts.
    const [first] = line.matchAll(POD_UID);
    return first?.[1] === undefined ? [] : [first[1].replaceAll("_", "-")];
  });
  return new Set(uids).size === 1 ? uids.slice(0, 1) : [];
}

function cgroupOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cgroup`, "utf8");
  } catch {
    // It has ended.
    return "";
  }
}
