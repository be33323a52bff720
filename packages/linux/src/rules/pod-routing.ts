import { MARK_MASK, TPROXY_MARK } from "@tulle/base";
import { CommandError, run } from "./command.ts";

/**
 * Policy routing in a pod (spec: l4-ztunnel §1.7): what carries the mark of ztunnel's connections to the application is
 * delivered locally, whatever its address is.
 */

type Family = "-4" | "-6";

/** Number of the table, Istio's. */
export const ROUTING_TABLE = 100;
const TABLE = String(ROUTING_TABLE);
/** Before the main table (32766), with Istio's number. */
const PREFERENCE = 32764;
const MARK = `0x${TPROXY_MARK.toString(16)}`;
const MASK = `0x${MARK_MASK.toString(16)}`;
const RULE = `fwmark ${MARK}/${MASK} pref ${PREFERENCE} lookup ${TABLE}`;
const ROUTE = `local default dev lo table ${TABLE}`;

interface JsonRule {
  readonly priority: number;
  readonly fwmark?: string;
  readonly fwmask?: string;
  readonly table?: string;
}

interface JsonRoute {
  readonly type?: string;
  readonly dst?: string;
  readonly dev?: string;
}

/** Arguments of `ip`, one line per command, that set up routing in a namespace where there is none yet. */
export function routingCommands(ipv6: boolean): string[] {
  return families(ipv6).flatMap((family) => [`${family} rule add ${RULE}`, `${family} route add ${ROUTE}`]);
}

/** What is in force in a namespace, by family. */
export interface Routing {
  readonly family: Family;
  readonly rules: readonly JsonRule[];
  readonly routes: readonly JsonRoute[];
}

/** Throws CommandError. */
export function readRouting(namespace: string, ipv6: boolean): Promise<Routing[]> {
  return Promise.all(families(ipv6).map((family) => readFamily(namespace, family)));
}

/** Adds what is missing, and takes what does not belong there out of the routing table. Throws CommandError. */
export async function applyRouting(namespace: string, present: readonly Routing[]): Promise<void> {
  for (const { family, rules, routes } of present) {
    const lines: string[] = [];
    if (!rules.some(isOurRule)) lines.push(`rule add ${RULE}`);
    if (routes.length > 0 && !isOurTable(routes)) lines.push(`route flush table ${TABLE}`);
    if (!isOurTable(routes)) lines.push(`route add ${ROUTE}`);
    await batch(namespace, family, lines);
  }
}

/** Removes what is there of it, for both families. */
export async function removeRouting(namespace: string): Promise<void> {
  for (const { family, rules, routes } of await readRouting(namespace, true)) {
    await batch(namespace, family, [
      ...rules.filter(isOurRule).map(() => `rule del ${RULE}`),
      ...routes.filter(isOurRoute).map(() => `route del ${ROUTE}`),
    ]);
  }
}

/** What is missing or too much, one sentence each. */
export function compareRouting(present: readonly Routing[]): string[] {
  const differences: string[] = [];
  for (const { family, rules, routes } of present) {
    if (!rules.some(isOurRule)) differences.push(`ip ${family} rule: missing ${RULE}`);
    if (!routes.some(isOurRoute)) differences.push(`ip ${family} route: missing ${ROUTE}`);
    else if (!isOurTable(routes)) differences.push(`ip ${family} route: table ${TABLE} holds other routes`);
  }
  return differences;
}

async function readFamily(namespace: string, family: Family): Promise<Routing> {
  const ask = async (...args: string[]) =>
    (await run("ip", [family, "-j", ...args], { namespace }).catch(noneOf)) || "[]";
  const [rules, routes] = await Promise.all([ask("rule"), ask("route", "show", "table", TABLE)]);
  return { family, rules: JSON.parse(rules) as JsonRule[], routes: JSON.parse(routes) as JsonRoute[] };
}

/** A kernel without IPv6, or a table in which there was never a route, answers with an error. */
function noneOf(error: unknown): string {
  if (error instanceof CommandError && /FIB table does not exist|not supported/.test(error.stderr)) return "[]";
  throw error;
}

function isOurRule(rule: JsonRule): boolean {
  return rule.priority === PREFERENCE && rule.fwmark === MARK && rule.fwmask === MASK && rule.table === TABLE;
}

function isOurRoute(route: JsonRoute): boolean {
  return route.type === "local" && route.dst === "default" && route.dev === "lo";
}

function isOurTable(routes: readonly JsonRoute[]): boolean {
  return routes.length === 1 && routes.every(isOurRoute);
}

function families(ipv6: boolean): Family[] {
  return ipv6 ? ["-4", "-6"] : ["-4"];
}

async function batch(namespace: string, family: Family, lines: readonly string[]): Promise<void> {
  if (lines.length > 0) await run("ip", [family, "-batch", "-"], { namespace, input: `${lines.join("\n")}\n` });
}
