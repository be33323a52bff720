import { Errno, SystemError } from "../errno.ts";
import type { NetNamespace } from "../net-namespace.ts";
import { ipFromBytes } from "@tulle/base";
import { attributesOf } from "./message.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "./netlink-socket.ts";
import { routingText } from "./routing.ts";

/** What of a network namespace can be looked at for some microseconds, without any program (rtnetlink(7), nf_tables). */

export interface NamespaceState {
  /** Grows with every change of any nftables rule of the namespace; undefined: the kernel has no nf_tables. */
  readonly rulesGeneration: number | undefined;
  /** Policy rules and the routes of `table`, as a text that changes when they do. */
  readonly routing: string;
  /** Addresses of all devices but loopback's own, canonical. */
  readonly addresses: readonly string[];
}

const RTM_GETADDR = 22;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
/** `struct ifaddrmsg`. */
const IFADDRMSG_SIZE = 8;
const RT_SCOPE_HOST = 254;
/** NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN. */
const GET_GENERATION = (10 << 8) | 16;
const NFTA_GEN_ID = 1;
/** `struct nfgenmsg`. */
const NFGENMSG_SIZE = 4;

/** Throws SystemError. `table`: number of the routing table that matters. */
export function readNamespaceState(namespace: NetNamespace, table: number): NamespaceState {
  return namespace.enter(() => {
    using route = NetlinkSocket.openHere(NETLINK_ROUTE);
    using netfilter = NetlinkSocket.openHere(NETLINK_NETFILTER);
    return {
      rulesGeneration: rulesGeneration(netfilter),
      routing: routingText(route, table),
      addresses: addresses(route),
    };
  });
}

/** Addresses of a namespace's devices, loopback's own left out. Throws SystemError. */
export function namespaceAddresses(namespace: NetNamespace): readonly string[] {
  using route = NetlinkSocket.open(NETLINK_ROUTE, namespace);
  return addresses(route);
}

function addresses(route: NetlinkSocket): string[] {
  const found: string[] = [];
  for (const { payload } of route.dump(RTM_GETADDR, Buffer.alloc(IFADDRMSG_SIZE))) {
    const [, , , scope] = payload;
    const attributes = attributesOf(payload, IFADDRMSG_SIZE);
    // On point-to-point links ADDRESS is the peer's.
    const ip = ipFromBytes(attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS) ?? Buffer.alloc(0));
    if (ip !== undefined && scope !== RT_SCOPE_HOST) found.push(ip);
  }
  return found;
}

/** Undefined: the kernel has no nf_tables. Throws SystemError. */
export function rulesGeneration(netfilter: NetlinkSocket): number | undefined {
  try {
    const { payload } = netfilter.ask(GET_GENERATION, Buffer.alloc(NFGENMSG_SIZE));
    return attributesOf(payload, NFGENMSG_SIZE).get(NFTA_GEN_ID)?.readUInt32BE(0);
  } catch (error) {
    // The module is not loaded: nobody has rules.
    if (error instanceof SystemError && error.errno === Errno.EINVAL) return undefined;
    throw error;
  }
}
