import { messageOf } from "@tulle/base";
import { NetNamespace } from "../net-namespace.ts";
import { isWritableSysctl, readSysctl, writeSysctl } from "../sysctl.ts";
import {
  applyTables,
  type CanonicalRuleset,
  compareRulesets,
  isRefusal,
  listRuleset,
  rehearse,
  tableKey,
  tablesOf,
} from "./nftables.ts";
import { podConnections } from "./pod-connections.ts";
import { applyRouting, compareRouting, type Routing, readRouting, removeRouting } from "./pod-routing.ts";
import { drainingRules, GUARD_TABLE, guardRules, POD_TABLES, type PodRuleOptions, podRules } from "./pod-rules.ts";
import { formatTransaction, type Table } from "./ruleset.ts";

/**
 * A pod's rules in its network namespace, which all of this takes as a path: `/run/netns/x`, `/proc/PID/ns/net`, or
 * `/proc/PID/fd/N` for a descriptor that process PID holds (never `/proc/self`: other programs open it). Needs NET_ADMIN and
 * SYS_ADMIN. Nothing here is remembered between calls: every call looks at what is in force. Calls for one namespace must
 * not overlap.
 */

export interface AppliedRules {
  /** False when everything was in force already. */
  readonly changed: boolean;
  readonly ipv6: "captured" | "dropped";
  /** Why IPv6 is dropped, or a setting could not be made; for the log. */
  readonly notes: readonly string[];
  /** The application's connections from before: they go on as they are, past ztunnel. */
  readonly establishedBefore: number;
}

export type RulesVerdict =
  | { readonly ok: true; readonly ipv6: "captured" | "dropped" }
  /** What is missing, unexpected or different, one sentence each; never empty. */
  | { readonly ok: false; readonly differences: readonly string[] };

/** What ought to be in force, and how nft lists it. */
interface Target {
  readonly tables: readonly Table[];
  readonly ruleset: CanonicalRuleset;
  readonly ipv6: boolean;
  readonly notes: readonly string[];
}

const OWN_TABLES = new Set(POD_TABLES.map(tableKey));
const IPV6_OFF = "net/ipv6/conf/lo/disable_ipv6";
/**
 * Connections are tracked from their SYN or not at all. Otherwise a packet in the middle of an old connection (or one that a
 * peer made up) leaves an entry behind, and nat is not asked again for a new connection with the same addresses.
 */
const LOOSE = { name: "net/netfilter/nf_conntrack_tcp_loose", wanted: "0", kernelDefault: "1" };
/** Settings of the pod's namespace. A machine that has or allows one of them not loses comfort, not capture. */
const SETTINGS = [
  // A closing listener's queue goes to another one of its group (SO_REUSEPORT) instead of being reset: restarts lose nothing.
  { name: "net/ipv4/tcp_migrate_req", wanted: "1" },
  LOOSE,
];
/** Listings of rehearsed rulesets. More variants than a node's pods have; the oldest goes. */
const MAX_REHEARSALS = 64;
const rehearsals = new Map<string, CanonicalRuleset>();

/**
 * Puts a pod's rules in force, and nothing else changes when they are already. Throws CommandError or SystemError when
 * that fails; what was in force before then still is.
 */
export async function applyPodRules(namespace: string, options: PodRuleOptions = {}): Promise<AppliedRules> {
  const target = await targetFor(namespace, options);
  const notes = [...target.notes];
  const ipv6 = target.ipv6 ? "captured" : "dropped";
  const { differences, routing } = await compare(namespace, target);
  if (differences.length > 0) {
    for (const { name, wanted, present, writable } of deviations(namespace)) {
      if (writable) writeSetting(namespace, name, wanted);
      else notes.push(`${name} stays ${present} instead of ${wanted}: it cannot be written here`);
    }
    // Routing first: the rules rely on it from their first packet on.
    using entered = NetNamespace.open(namespace);
    applyRouting(entered, routing);
    await applyTables(namespace, { remove: POD_TABLES, add: target.tables });
  }
  const { direct } = podConnections(namespace, options.probeIps);
  return { changed: differences.length > 0, ipv6, notes, establishedBefore: direct.length };
}

/** Whether a pod's rules are as they should be. Throws CommandError or SystemError when that cannot be found out. */
export async function verifyPodRules(namespace: string, options: PodRuleOptions = {}): Promise<RulesVerdict> {
  const target = await targetFor(namespace, options);
  const { differences } = await compare(namespace, target);
  return differences.length === 0
    ? { ok: true, ipv6: target.ipv6 ? "captured" : "dropped" }
    : { ok: false, differences };
}

/** Whether any of a pod's rules are in force, whole or not: draining ones too. Throws CommandError or SystemError. */
export async function hasPodRules(namespace: string): Promise<boolean> {
  const present = tablesOf(await listRuleset(namespace));
  return [...OWN_TABLES].some((table) => present.has(table));
}

/**
 * Stops capturing at once. Connections that were captured go on, and what they need stays in force until they have ended:
 * call it again (after ztunnel has let go of the pod) until it returns 0. `force`: whether they have ended or not.
 * Idempotent; leaves the guard alone.
 */
export async function removePodRules(namespace: string, options: { readonly force?: boolean } = {}): Promise<number> {
  const present = tablesOf(await listRuleset(namespace));
  if ([...OWN_TABLES].some((table) => present.has(table))) {
    const [inet] = POD_TABLES.map(tableKey);
    if (options.force !== true) {
      await applyTables(namespace, { remove: POD_TABLES, add: drainingRules(present.has(inet ?? "")) });
      const { captured } = podConnections(namespace);
      if (captured > 0) return captured;
    }
    await applyTables(namespace, { remove: POD_TABLES, add: [] });
  }
  using entered = NetNamespace.open(namespace);
  removeRouting(entered);
  if (readSysctl(LOOSE.name, entered) === LOOSE.wanted) writeSysctl(LOOSE.name, LOOSE.kernelDefault, entered);
  return 0;
}

/** Holds back all TCP and UDP of a pod, loopback excepted, until `removeGuard`. Idempotent. */
export async function installGuard(namespace: string): Promise<void> {
  await applyTables(namespace, { remove: [GUARD_TABLE], add: guardRules() });
}

/** Idempotent. */
export async function removeGuard(namespace: string): Promise<void> {
  await applyTables(namespace, { remove: [GUARD_TABLE], add: [] });
}

/** Whether the guard is in force, whole. */
export async function isGuarded(namespace: string): Promise<boolean> {
  const desired = await rehearsed(guardRules(), undefined);
  return compareRulesets(desired, await listRuleset(namespace), new Set([tableKey(GUARD_TABLE)])).length === 0;
}

async function compare(namespace: string, target: Target): Promise<{ differences: string[]; routing: Routing[] }> {
  const ruleset = await listRuleset(namespace);
  using entered = NetNamespace.open(namespace);
  const routing = readRouting(entered, target.ipv6);
  const differences = [
    ...compareRulesets(target.ruleset, ruleset, OWN_TABLES),
    ...compareRouting(routing),
    ...deviations(namespace)
      .filter(({ writable }) => writable)
      .map(({ name, present, wanted }) => `${name} is ${present}, not ${wanted}`),
  ];
  return { differences, routing };
}

/**
 * IPv6 is captured where that is asked for and possible; otherwise it is dropped, because it would pass by ztunnel. Whether
 * it is possible: loopback has IPv6 (replies to ztunnel pass through it), and a rehearsal on this kernel succeeds.
 */
async function targetFor(namespace: string, options: PodRuleOptions): Promise<Target> {
  const notes: string[] = [];
  if (options.ipv6 ?? true) {
    using entered = NetNamespace.open(namespace);
    if (readSysctl(IPV6_OFF, entered) === "0") {
      try {
        const tables = podRules({ ...options, ipv6: true });
        return { tables, ruleset: await rehearsed(tables, { ipv6: true }), ipv6: true, notes };
      } catch (error) {
        if (!isRefusal(error)) throw error;
        notes.push(`IPv6 is dropped, because it cannot be captured on this kernel: ${messageOf(error)}`);
      }
    } else notes.push("IPv6 is dropped, because it is off on the pod's loopback device");
  }
  const tables = podRules({ ...options, ipv6: false });
  return { tables, ruleset: await rehearsed(tables, { ipv6: false }), ipv6: false, notes };
}

/** `routing`: with policy routing, as in a pod. */
async function rehearsed(
  tables: readonly Table[],
  routing: { readonly ipv6: boolean } | undefined,
): Promise<CanonicalRuleset> {
  const key = `${routing?.ipv6}\n${formatTransaction({ remove: [], add: tables })}`;
  const known = rehearsals.get(key);
  if (known !== undefined) return known;
  const ruleset = await rehearse(tables, (namespace) => {
    if (routing !== undefined) applyRouting(namespace, readRouting(namespace, routing.ipv6));
  });
  if (rehearsals.size >= MAX_REHEARSALS) rehearsals.delete(rehearsals.keys().next().value ?? "");
  rehearsals.set(key, ruleset);
  return ruleset;
}

/** What a setting is, where it exists and is not as wanted. */
interface Deviation {
  readonly name: string;
  readonly present: string;
  readonly wanted: string;
  readonly writable: boolean;
}

function deviations(namespace: string): Deviation[] {
  using entered = NetNamespace.open(namespace);
  return SETTINGS.flatMap(({ name, wanted }) => {
    const present = readSysctl(name, entered);
    if (present === undefined || present === wanted) return [];
    return [{ name, present, wanted, writable: isWritableSysctl(name, entered) }];
  });
}

function writeSetting(namespace: string, name: string, value: string): void {
  using entered = NetNamespace.open(namespace);
  writeSysctl(name, value, entered);
}
