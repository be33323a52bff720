import { AF_INET, AF_INET6 } from "../constants.ts";
import { Errno, SystemError } from "../errno.ts";
import { attributesOf, attributeU32, NLM_F_CREATE, NLM_F_EXCL, type NetlinkMessage, u32 } from "./message.ts";
import type { NetlinkSocket } from "./netlink-socket.ts";

/** Policy rules and routes of a network namespace (rtnetlink(7), linux/fib_rules.h), as far as pods need them. */

export type RoutingFamily = "-4" | "-6";

export interface PolicyRule {
  readonly priority: number;
  readonly mark: number;
  readonly mask: number;
  readonly table: number;
}

export interface Route {
  /** linux/rtnetlink.h: 1 unicast, 2 local … */
  readonly type: number;
  readonly prefixLength: number;
  /** Index of the device, 0 when it names none. */
  readonly device: number;
  readonly table: number;
  /** As the kernel has given it; says which route to delete. */
  readonly payload: Buffer;
}

/** Loopback is the first device of every namespace. */
export const LOOPBACK_INDEX = 1;
export const ROUTE_LOCAL = 2;

const RTM_NEWLINK = 16;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTM_NEWRULE = 32;
const RTM_DELRULE = 33;
const RTM_GETRULE = 34;
/** `struct fib_rule_hdr` and `struct rtmsg`: family, two prefix lengths, tos, table … */
const HEADER_SIZE = 12;
const HEADER = { family: 0, prefixLength: 1, table: 4, protocol: 5, scope: 6, routeType: 7, ruleAction: 7 } as const;
const FRA = { priority: 6, mark: 10, table: 15, mask: 16 } as const;
const RTA = { device: 4, cacheInfo: 12, table: 15 } as const;
const ACTION_TO_TABLE = 1;
/** As `ip` marks what an administrator has made. */
const PROTOCOL_BOOT = 3;
const SCOPE_HOST = 254;
/** `struct ifinfomsg`. */
const LINK = { index: 4, flags: 8, change: 12, size: 16 } as const;
const IFF_UP = 1;

/** Throws SystemError. */
export function listRules(socket: NetlinkSocket, family: RoutingFamily): PolicyRule[] {
  return dump(socket, RTM_GETRULE, family).flatMap(({ payload }) => {
    const attributes = attributesOf(payload, HEADER_SIZE);
    if (payload[HEADER.ruleAction] !== ACTION_TO_TABLE) return [];
    return {
      priority: u32(attributes.get(FRA.priority)) ?? 0,
      mark: u32(attributes.get(FRA.mark)) ?? 0,
      mask: u32(attributes.get(FRA.mask)) ?? 0,
      table: u32(attributes.get(FRA.table)) ?? payload[HEADER.table] ?? 0,
    };
  });
}

/** Routes of one table. Throws SystemError. */
export function listRoutes(socket: NetlinkSocket, family: RoutingFamily, table: number): Route[] {
  return dump(socket, RTM_GETROUTE, family)
    .map(({ payload }) => {
      const attributes = attributesOf(payload, HEADER_SIZE);
      return {
        type: payload[HEADER.routeType] ?? 0,
        prefixLength: payload[HEADER.prefixLength] ?? 0,
        device: u32(attributes.get(RTA.device)) ?? 0,
        table: u32(attributes.get(RTA.table)) ?? payload[HEADER.table] ?? 0,
        payload,
      };
    })
    .filter((route) => route.table === table);
}

/** A text that changes when rules, or the routes of a table, do. Throws SystemError. */
export function routingText(socket: NetlinkSocket, table: number): string {
  const parts: string[] = [];
  for (const family of ["-4", "-6"] as const) {
    for (const { payload } of dump(socket, RTM_GETRULE, family)) parts.push(payload.toString("hex"));
    for (const { payload } of listRoutes(socket, family, table)) {
      const attributes = attributesOf(payload, HEADER_SIZE);
      // Statistics, different at each look.
      attributes.delete(RTA.cacheInfo);
      const values = [...attributes].map(([type, value]) => `${type}=${value.toString("hex")}`);
      parts.push(payload.toString("hex", 0, HEADER_SIZE), ...values);
    }
  }
  return parts.join(" ");
}

/** There already is well. Throws SystemError. */
export function addRule(socket: NetlinkSocket, family: RoutingFamily, rule: PolicyRule): void {
  const result = socket.change(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, ruleOf(family, rule));
  if (result !== -Errno.EEXIST) check(result, "add a policy rule");
}

/** Gone already is well. Throws SystemError. */
export function deleteRule(socket: NetlinkSocket, family: RoutingFamily, rule: PolicyRule): void {
  const result = socket.change(RTM_DELRULE, 0, ruleOf(family, rule));
  if (result !== -Errno.ENOENT) check(result, "delete a policy rule");
}

/** `local default dev lo`; there already is well. Throws SystemError. */
export function addLocalDefault(socket: NetlinkSocket, family: RoutingFamily, table: number): void {
  const header = headerOf(family);
  header[HEADER.table] = table;
  header[HEADER.protocol] = PROTOCOL_BOOT;
  header[HEADER.scope] = SCOPE_HOST;
  header[HEADER.routeType] = ROUTE_LOCAL;
  const payload = Buffer.concat([header, attributeU32(RTA.table, table), attributeU32(RTA.device, LOOPBACK_INDEX)]);
  const result = socket.change(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, payload);
  if (result !== -Errno.EEXIST) check(result, "add a route");
}

/** Gone already is well. Throws SystemError. */
export function deleteRoute(socket: NetlinkSocket, route: Route): void {
  const result = socket.change(RTM_DELROUTE, 0, route.payload);
  if (result !== -Errno.ESRCH) check(result, "delete a route");
}

/** Throws SystemError. */
export function setLoopbackUp(socket: NetlinkSocket): void {
  const payload = Buffer.alloc(LINK.size);
  payload.writeInt32LE(LOOPBACK_INDEX, LINK.index);
  payload.writeUInt32LE(IFF_UP, LINK.flags);
  payload.writeUInt32LE(IFF_UP, LINK.change);
  check(socket.change(RTM_NEWLINK, 0, payload), "set the loopback device up");
}

function ruleOf(family: RoutingFamily, { priority, mark, mask, table }: PolicyRule): Buffer {
  const header = headerOf(family);
  header[HEADER.table] = table;
  header[HEADER.ruleAction] = ACTION_TO_TABLE;
  return Buffer.concat([
    header,
    attributeU32(FRA.priority, priority),
    attributeU32(FRA.mark, mark),
    attributeU32(FRA.mask, mask),
    attributeU32(FRA.table, table),
  ]);
}

function headerOf(family: RoutingFamily): Buffer {
  const header = Buffer.alloc(HEADER_SIZE);
  header[HEADER.family] = family === "-4" ? AF_INET : AF_INET6;
  return header;
}

/** A kernel without the family has none of it; one without it compiled in answers for any, so the family is looked at. */
function dump(socket: NetlinkSocket, type: number, family: RoutingFamily): NetlinkMessage[] {
  const header = headerOf(family);
  try {
    return socket.dump(type, header).filter(({ payload }) => payload[HEADER.family] === header[HEADER.family]);
  } catch (error) {
    if (error instanceof SystemError && NOT_THERE.has(error.errno)) return [];
    throw error;
  }
}

const NOT_THERE: ReadonlySet<number> = new Set([Errno.EOPNOTSUPP, Errno.EAFNOSUPPORT]);

function check(result: number, what: string): void {
  if (result < 0) throw new SystemError(what, result);
}
