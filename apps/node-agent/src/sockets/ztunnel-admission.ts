import { readFileSync } from "node:fs";
import { PID_ANNOTATION } from "@tulle/base";
import type { PeerCredentials } from "@tulle/linux";
import type { Store } from "@tulle/store";
import { ZTUNNEL_APP } from "@tulle/base/enrolment";
import { annotationOf, isFinished, PODS, type Pod, uidOf } from "../objects.ts";

/** Who may connect to ZDS: root, in this node's ztunnel pod. Nobody else is told of pods, or handed their namespaces. */

export interface AdmissionOptions {
  readonly store: Pick<Store, "list">;
  readonly nodeName: string;
  readonly systemNamespace: string;
  /**
   * `cgroup`: the process is in a cgroup of the pod (needs the host's pids). `annotation`: the pod names the process in
   * `tulle.dev/pid` (the local mesh, whose pods are no containers).
   */
  readonly check: "cgroup" | "annotation";
  /** Text of `/proc/PID/cgroup`. Default: this machine's. */
  readonly readCgroup?: (pid: number) => string;
}

/** Uids of pods in paths of cgroups: with systemd's driver hyphens are underscores. */
const POD_UID = /pod([0-9a-f]{8}([-_])[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{12})(?=[./]|$)/g;

/** Undefined: it is this node's ztunnel; else why not. */
export function ztunnelAdmission(options: AdmissionOptions): (peer: PeerCredentials) => Promise<string | undefined> {
  const { store, nodeName, systemNamespace, check, readCgroup = cgroupOf } = options;
  return async ({ pid, uid }) => {
    if (uid !== 0) return "it does not run as root";
    if (pid <= 0) return "its process is not visible here: the node agent needs hostPID";
    const uids = check === "cgroup" ? podUidsOf(readCgroup(pid)) : undefined;
    if (uids?.length === 0) return "it is in no pod";
    // Asked for now, not taken from a watch: a ztunnel that has just started must be known.
    const pods = await store.list(PODS, {
      namespace: systemNamespace,
      labels: { [ZTUNNEL_APP.key]: ZTUNNEL_APP.value },
      fields: { "spec.nodeName": nodeName },
    });
    const own = pods.filter((pod) => pod.spec?.nodeName === nodeName && !isFinished(pod));
    const isIts = (pod: Pod) =>
      uids === undefined ? annotationOf(pod, PID_ANNOTATION) === String(pid) : uids.includes(uidOf(pod));
    return own.some(isIts)
      ? undefined
      : `it is in no pod of ${systemNamespace} with ${ZTUNNEL_APP.key}=${ZTUNNEL_APP.value} on this node`;
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
