import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { isNameableCgroup } from "@tulle/linux";

/** The kubelet of this node as the kernel knows it. */
export interface Kubelet {
  readonly uid: number;
  /** Its control group (version 2) below /sys/fs/cgroup, if it has one that can be seen from here and named in a rule. */
  readonly cgroup: string | undefined;
  /** Number of that control group: another one means that it was made anew. */
  readonly cgroupId: number | undefined;
}

export interface KubeletSources {
  /** `/proc` with the host's processes. */
  readonly proc: string;
  /** Where nft looks control groups up. */
  readonly cgroups: string;
}

/** k3s and RKE2 run it as part of a larger process; those have their own name for it. */
const NAMES = new Set(["kubelet", "kubelite", "k3s-server", "k3s-agent", "k3s"]);
const THIS_MACHINE: KubeletSources = { proc: "/proc", cgroups: "/sys/fs/cgroup" };
/** The kernel has no more by default (pid_max of large machines is higher; the kubelet starts early). */
const MAX_PROCESSES = 65_536;

/** Looks through all processes. Undefined: there is none, or it cannot be seen. */
export function findKubelet(sources: KubeletSources = THIS_MACHINE): Kubelet | undefined {
  const pids = readdirSync(sources.proc).filter((name) => /^\d+$/.test(name));
  const pid = pids.slice(0, MAX_PROCESSES).find((one) => NAMES.has(textOf(join(sources.proc, one, "comm")).trim()));
  if (pid === undefined) return undefined;
  const uid = /^Uid:\s+(\d+)/m.exec(textOf(join(sources.proc, pid, "status")))?.[1];
  if (uid === undefined) return undefined;
  const cgroup = cgroupOf(textOf(join(sources.proc, pid, "cgroup")));
  const cgroupId = cgroup === undefined ? undefined : cgroupIdOf(cgroup, sources);
  return { uid: Number(uid), cgroup: cgroupId === undefined ? undefined : cgroup, cgroupId };
}

/** Undefined: it is not (or no longer) there. */
export function cgroupIdOf(cgroup: string, sources: KubeletSources = THIS_MACHINE): number | undefined {
  // Version 1 has folders of the same names, which nft cannot use.
  if (statSync(join(sources.cgroups, "cgroup.controllers"), { throwIfNoEntry: false }) === undefined) return undefined;
  return statSync(join(sources.cgroups, cgroup), { throwIfNoEntry: false })?.ino;
}

/** `0::/../../system.slice/kubelet.service`: relative to this process' own control group when it has a view of its own. */
function cgroupOf(text: string): string | undefined {
  const path = /^0::(.*)$/m
    .exec(text)?.[1]
    ?.replace(/^(\/\.\.)+/, "")
    .replace(/^\//, "");
  return path !== undefined && isNameableCgroup(path) ? path : undefined;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // Processes end while they are looked at.
    return "";
  }
}
