import type { NetNamespace } from "../net-namespace.ts";
import { isWritableSysctl, readSysctl, writeSysctl } from "../sysctl.ts";
import type { ReturnPath } from "./return-path.ts";

/** Settings of a pod's network namespace that its rules count on. */

interface Setting {
  readonly name: string;
  readonly wanted: string;
  /** What it is given back; undefined: it may stay. */
  readonly kernelDefault: string | undefined;
}

/** What makes the application's side answer with the mark of what it answers: see ReturnPath. */
const MARKED_ANSWERS: readonly Setting[] = [
  // Its end of a connection.
  { name: "net/ipv4/tcp_fwmark_accept", wanted: "1", kernelDefault: "0" },
  // The kernel, where no socket takes the connection: a refusal would go to the client, who has sent nothing.
  { name: "net/ipv4/fwmark_reflect", wanted: "1", kernelDefault: "0" },
  { name: "net/ipv6/fwmark_reflect", wanted: "1", kernelDefault: "0" },
];
/** Exists wherever there is IPv6. */
const IPV6 = "net/ipv6/conf/lo/disable_ipv6";
/** A machine that has or allows one of them not loses comfort, not capture. */
const SETTINGS: readonly Setting[] = [
  // A closing listener's queue goes to another one of its group (SO_REUSEPORT) instead of being reset: restarts lose nothing.
  { name: "net/ipv4/tcp_migrate_req", wanted: "1", kernelDefault: undefined },
  // Connections are tracked from their SYN or not at all. Otherwise a packet in the middle of an old connection (or one that
  // a peer made up) leaves an entry behind, and nat is not asked again for a new connection with the same addresses.
  { name: "net/netfilter/nf_conntrack_tcp_loose", wanted: "0", kernelDefault: "1" },
  ...MARKED_ANSWERS,
];

/** What a setting is, where it exists and is not as wanted. */
export interface Deviation {
  readonly name: string;
  readonly present: string;
  readonly wanted: string;
  readonly writable: boolean;
}

export function deviations(namespace: NetNamespace): Deviation[] {
  return SETTINGS.flatMap(({ name, wanted }) => {
    const present = readSysctl(name, namespace);
    if (present === undefined || present === wanted) return [];
    return [{ name, present, wanted, writable: isWritableSysctl(name, namespace) }];
  });
}

/** Makes them; returns what could not be made, for the log. */
export function makeSettings(namespace: NetNamespace): string[] {
  return deviations(namespace).flatMap(({ name, wanted, present, writable }) => {
    if (!writable) return [`${name} stays ${present} instead of ${wanted}: it cannot be written here`];
    writeSysctl(name, wanted, namespace);
    return [];
  });
}

/** Gives back what would change how the pod's connections fare without rules. */
export function restoreSettings(namespace: NetNamespace): void {
  for (const { name, wanted, kernelDefault } of SETTINGS) {
    if (kernelDefault === undefined || readSysctl(name, namespace) !== wanted) continue;
    writeSysctl(name, kernelDefault, namespace);
  }
}

/** What the settings allow, once they are made. */
export function possibleReturnPath(namespace: NetNamespace): ReturnPath {
  const possible = MARKED_ANSWERS.every(({ name, wanted }) => {
    const present = readSysctl(name, namespace);
    if (present === undefined) return isOfAbsentIpv6(name, namespace);
    return present === wanted || isWritableSysctl(name, namespace);
  });
  return possible ? "socket-mark" : "connection-mark";
}

/** What the rules count on that are in force. */
export function presentReturnPath(namespace: NetNamespace): ReturnPath {
  const made = MARKED_ANSWERS.every(({ name, wanted }) => {
    const present = readSysctl(name, namespace);
    return present === undefined ? isOfAbsentIpv6(name, namespace) : present === wanted;
  });
  return made ? "socket-mark" : "connection-mark";
}

/** A kernel without IPv6 needs none of its settings. */
function isOfAbsentIpv6(name: string, namespace: NetNamespace): boolean {
  return name.startsWith("net/ipv6/") && readSysctl(IPV6, namespace) === undefined;
}
