import { messageOf } from "@tulle/base";
import { forgetTracked, hasLegacyTables, rulesOverview } from "../netlink/netfilter.ts";
import { NetNamespace } from "../net-namespace.ts";
import { readSysctl } from "../sysctl.ts";
import { applyTables, type CanonicalRuleset, compareRulesets, isRefusal, listRuleset, tableKey } from "./nftables.ts";
import { directConnections, podConnections } from "./pod-connections.ts";
import { applyRouting, compareRouting, readRouting, removeRouting } from "./pod-routing.ts";
import { CAPTURE_TABLES, drainingRules, POD_TABLES, type PodRuleOptions, podRules } from "./pod-rules.ts";
import { deviations, makeSettings, possibleReturnPath, presentReturnPath, restoreSettings } from "./pod-settings.ts";
import { rehearsed } from "./rehearsal.ts";
import type { Table, TableName } from "./ruleset.ts";

/**
 * A pod's rules in its network namespace, which all of this takes as a path: `/run/netns/x`, `/proc/PID/ns/net`, or
 * `/proc/PID/fd/N` for a descriptor that process PID holds (never `/proc/self`: other programs open it). Needs NET_ADMIN and
 * SYS_ADMIN. Nothing here is remembered between calls: every call looks at what is in force. Calls for one namespace must
 * not overlap. Only nft is run as a program: once to apply, once to remove, once to list.
 */

export interface AppliedRules {
  /** False when everything was in force already. */
  readonly changed: boolean;
  readonly ipv6: "captured" | "dropped";
  /** Why IPv6 is dropped, or a setting could not be made; for the log. */
  readonly notes: readonly string[];
  /** The application's connections from before: they go on as they are, past ztunnel. */
  readonly establishedBefore: number;
  /** The rules' generation (see NamespaceState) in which all of this is known to be in force; undefined: it has to be verified. */
  readonly generation: number | undefined;
}

export interface ApplyOptions {
  /** Makes them anew without looking whether they are in force already, which saves a listing. Default false. */
  readonly anew?: boolean;
}

export type RulesVerdict =
  | { readonly ok: true; readonly ipv6: "captured" | "dropped" }
  /** What is missing, unexpected or different, one sentence each; never empty. */
  | { readonly ok: false; readonly differences: readonly string[] };

/** What ought to be in force. */
interface Target {
  readonly tables: readonly Table[];
  readonly ipv6: boolean;
}

const OWN_TABLES = new Set(POD_TABLES.map(tableKey));
const IPV6_OFF = "net/ipv6/conf/lo/disable_ipv6";

/**
 * Puts a pod's rules in force, and nothing else changes when they are already. Throws CommandError or SystemError when
 * that fails; what was in force before then still is.
 */
export async function applyPodRules(
  namespace: string,
  options: PodRuleOptions = {},
  { anew = false }: ApplyOptions = {},
): Promise<AppliedRules> {
  using entered = NetNamespace.open(namespace);
  const before = rulesOverview(entered);
  const notes: string[] = [];
  const result = (fields: Pick<AppliedRules, "changed" | "ipv6" | "generation">): AppliedRules => {
    const direct = directConnections(() => podConnections(entered, options.probeIps));
    return { ...fields, notes, establishedBefore: direct.length };
  };
  if (!anew && before.tables.some((table) => OWN_TABLES.has(table))) {
    const verdict = await verifyPodRules(namespace, options);
    if (verdict.ok) return result({ changed: false, ipv6: verdict.ipv6, generation: before.generation });
  }
  if (!forgetUnlessShared(entered)) {
    notes.push("connections that were tracked earlier cannot be forgotten: nf_conntrack_netlink is not there");
  }
  notes.push(...makeSettings(entered));
  const ipv6 = await applyBest(namespace, entered, options, notes);
  const { generation } = rulesOverview(entered);
  // One transaction, and nobody else's meanwhile: what is in force is what was asked for.
  const certain = generation !== undefined && before.generation !== undefined && generation === before.generation + 1;
  return result({ changed: true, ipv6: ipv6 ? "captured" : "dropped", generation: certain ? generation : undefined });
}

/** Whether a pod's rules are as they should be. Throws CommandError or SystemError when that cannot be found out. */
export async function verifyPodRules(namespace: string, options: PodRuleOptions = {}): Promise<RulesVerdict> {
  using entered = NetNamespace.open(namespace);
  let expected: { readonly ruleset: CanonicalRuleset; readonly ipv6: boolean } | undefined;
  for (const { tables, ipv6 } of targets(entered, options, [])) {
    try {
      expected = { ruleset: await rehearsed(tables, { ipv6 }), ipv6 };
      break;
    } catch (error) {
      if (!ipv6 || !isRefusal(error)) throw error;
    }
  }
  if (expected === undefined) throw new Error("there are no rules for this pod");
  const differences = [
    ...compareRulesets(expected.ruleset, await listRuleset(namespace), OWN_TABLES),
    ...compareRouting(readRouting(entered, expected.ipv6)),
    ...deviations(entered)
      .filter(({ writable }) => writable)
      .map(({ name, present, wanted }) => `${name} is ${present}, not ${wanted}`),
  ];
  return differences.length === 0
    ? { ok: true, ipv6: expected.ipv6 ? "captured" : "dropped" }
    : { ok: false, differences };
}

/** Whether any of a pod's rules are in force, whole or not: draining ones too. Throws SystemError. */
export function hasPodRules(namespace: string): Promise<boolean> {
  return Promise.try(() => {
    using entered = NetNamespace.open(namespace);
    return rulesOverview(entered).tables.some((table) => OWN_TABLES.has(table));
  });
}

/**
 * Stops capturing at once. Connections that were captured go on, and what they and ztunnel's later ones to the application
 * need stays in force, until `removePodRules`. Idempotent.
 */
export async function drainPodRules(namespace: string): Promise<void> {
  using entered = NetNamespace.open(namespace);
  await drain(namespace, entered, rulesOverview(entered).tables);
}

/**
 * Stops capturing as `drainPodRules` does, and removes everything once the last captured connection has ended: call it
 * again (after ztunnel has let go of the pod) until it returns 0, how many ends of them there still are. `force`: whether
 * they have ended or not. Idempotent.
 */
export async function removePodRules(namespace: string, options: { readonly force?: boolean } = {}): Promise<number> {
  using entered = NetNamespace.open(namespace);
  const { tables } = rulesOverview(entered);
  if (tables.some((table) => OWN_TABLES.has(table))) {
    if (options.force !== true) {
      await drain(namespace, entered, tables);
      // None can be captured any more: what is counted now can only become less.
      const { captured } = podConnections(entered);
      if (captured > 0) return captured;
    }
    await applyTables(namespace, { remove: POD_TABLES, add: [] });
    forgetUnlessShared(entered);
  }
  removeRouting(entered);
  restoreSettings(entered);
  return 0;
}

async function drain(namespace: string, entered: NetNamespace, tables: readonly string[]): Promise<void> {
  const capturing = CAPTURE_TABLES.filter((table) => tables.includes(tableKey(table)));
  if (capturing.length === 0) return;
  const ipv6 = capturing.some((table) => tableKey(table) === tableKey(CAPTURE_TABLES[0] as TableName));
  await applyTables(namespace, { remove: POD_TABLES, add: drainingRules(ipv6, presentReturnPath(entered)) });
}

/**
 * Where nobody has rules, nobody tracks: what is still remembered of former connections has missed their end, and a new
 * one with the same addresses would be taken for it. False: it cannot be forgotten here.
 */
function forgetUnlessShared(entered: NetNamespace): boolean {
  const shared = rulesOverview(entered).tables.length > 0 || hasLegacyTables(entered);
  return shared || forgetTracked(entered);
}

/** Applies the best that this kernel takes; true: IPv6 is captured. */
async function applyBest(
  namespace: string,
  entered: NetNamespace,
  options: PodRuleOptions,
  notes: string[],
): Promise<boolean> {
  for (const { tables, ipv6 } of targets(entered, options, notes)) {
    // Routing first: the rules rely on it from their first packet on.
    applyRouting(entered, readRouting(entered, ipv6));
    try {
      await applyTables(namespace, { remove: POD_TABLES, add: tables });
      return ipv6;
    } catch (error) {
      if (!ipv6 || !isRefusal(error)) throw error;
      notes.push(`IPv6 is dropped, because it cannot be captured on this kernel: ${messageOf(error)}`);
    }
  }
  throw new Error("there are no rules for this pod");
}

/**
 * What ought to be in force, the best first. IPv6 is captured where that is asked for and possible; otherwise it is
 * dropped, because it would pass by ztunnel. Whether it is possible: loopback has IPv6 (replies to ztunnel pass through
 * it), and this kernel takes the rules.
 */
function targets(entered: NetNamespace, options: PodRuleOptions, notes: string[]): Target[] {
  const returnPath = possibleReturnPath(entered);
  const target = (ipv6: boolean): Target => ({ tables: podRules({ ...options, ipv6, returnPath }), ipv6 });
  if (options.ipv6 === false) return [target(false)];
  if (readSysctl(IPV6_OFF, entered) === "0") return [target(true), target(false)];
  notes.push("IPv6 is dropped, because it is off on the pod's loopback device");
  return [target(false)];
}
