import { MARK_MASK, TPROXY_MARK } from "@tulle/base";
import type { NetNamespace } from "../net-namespace.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/netlink-socket.ts";
import {
  addLocalDefault,
  addRule,
  deleteRoute,
  deleteRule,
  listRoutes,
  listRules,
  LOOPBACK_INDEX,
  type PolicyRule,
  ROUTE_LOCAL,
  type Route,
  type RoutingFamily,
} from "../netlink/routing.ts";

/**
 * Policy routing in a pod (spec: l4-ztunnel §1.7): what carries the mark of ztunnel's connections to the application is
 * delivered locally, whatever its address is. All of it is asked of the kernel directly and throws SystemError.
 */

/** Number of the table, Istio's. */
export const ROUTING_TABLE = 100;
/** Before the main table (32766), with Istio's number. */
const RULE: PolicyRule = { priority: 32764, mark: TPROXY_MARK, mask: MARK_MASK, table: ROUTING_TABLE };
const RULE_TEXT = `fwmark 0x${RULE.mark.toString(16)}/0x${RULE.mask.toString(16)} pref ${RULE.priority} lookup ${RULE.table}`;
const ROUTE_TEXT = `local default dev lo table ${ROUTING_TABLE}`;

/** What is in force in a namespace, by family. */
export interface Routing {
  readonly family: RoutingFamily;
  readonly rules: readonly PolicyRule[];
  /** Of our table. */
  readonly routes: readonly Route[];
}

export function readRouting(namespace: NetNamespace, ipv6: boolean): Routing[] {
  using socket = NetlinkSocket.open(NETLINK_ROUTE, namespace);
  return families(ipv6).map((family) => ({
    family,
    rules: listRules(socket, family),
    routes: listRoutes(socket, family, ROUTING_TABLE),
  }));
}

/** Adds what is missing, and takes what does not belong there out of the routing table. */
export function applyRouting(namespace: NetNamespace, present: readonly Routing[]): void {
  using socket = NetlinkSocket.open(NETLINK_ROUTE, namespace);
  for (const { family, rules, routes } of present) {
    if (!rules.some(isOurRule)) addRule(socket, family, RULE);
    if (isOurTable(routes)) continue;
    for (const route of routes) if (!isOurRoute(route)) deleteRoute(socket, route);
    addLocalDefault(socket, family, ROUTING_TABLE);
  }
}

/** Removes what is there of it, for both families. */
export function removeRouting(namespace: NetNamespace): void {
  using socket = NetlinkSocket.open(NETLINK_ROUTE, namespace);
  for (const { family, rules, routes } of readRouting(namespace, true)) {
    for (const rule of rules.filter(isOurRule)) deleteRule(socket, family, rule);
    for (const route of routes.filter(isOurRoute)) deleteRoute(socket, route);
  }
}

/** What is missing or too much, one sentence each. */
export function compareRouting(present: readonly Routing[]): string[] {
  const differences: string[] = [];
  for (const { family, rules, routes } of present) {
    if (!rules.some(isOurRule)) differences.push(`ip ${family} rule: missing ${RULE_TEXT}`);
    if (!routes.some(isOurRoute)) differences.push(`ip ${family} route: missing ${ROUTE_TEXT}`);
    else if (!isOurTable(routes)) differences.push(`ip ${family} route: table ${ROUTING_TABLE} holds other routes`);
  }
  return differences;
}

function isOurRule({ priority, mark, mask, table }: PolicyRule): boolean {
  return priority === RULE.priority && mark === RULE.mark && mask === RULE.mask && table === RULE.table;
}

function isOurRoute({ type, prefixLength, device }: Route): boolean {
  return type === ROUTE_LOCAL && prefixLength === 0 && device === LOOPBACK_INDEX;
}

function isOurTable(routes: readonly Route[]): boolean {
  return routes.length === 1 && routes.every(isOurRoute);
}

function families(ipv6: boolean): RoutingFamily[] {
  return ipv6 ? ["-4", "-6"] : ["-4"];
}
