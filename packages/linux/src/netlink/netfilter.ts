import { readFileSync } from "node:fs";
import { Errno, SystemError } from "../errno.ts";
import type { NetNamespace } from "../net-namespace.ts";
import { attributesOf } from "./message.ts";
import { rulesGeneration } from "./namespace-state.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "./netlink-socket.ts";

/** nftables and connection tracking of a network namespace, by netlink (linux/netfilter/nfnetlink.h): no program runs. */

/** What a look at a namespace's rules shows without listing them. */
export interface RulesOverview {
  /** Grows by one with every transaction; undefined: the kernel has no nf_tables. */
  readonly generation: number | undefined;
  /** Names of the tables: `inet tulle-pod`. */
  readonly tables: readonly string[];
}

/** NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE. */
const GET_TABLE = (10 << 8) | 1;
const NFTA_TABLE_NAME = 1;
/** NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE. */
const DELETE_TRACKED = (1 << 8) | 2;
/** `struct nfgenmsg`: family, version, resource id. */
const NFGENMSG_SIZE = 4;
/** NFPROTO_* as nft calls them. */
const FAMILIES: Readonly<Record<number, string>> = {
  1: "inet",
  2: "ip",
  3: "arp",
  5: "netdev",
  7: "bridge",
  10: "ip6",
};
/** Tables of the older iptables, one a line; nft does not know of them. */
const LEGACY_TABLES = ["/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"];

/** Throws SystemError. */
export function rulesOverview(namespace: NetNamespace): RulesOverview {
  using netfilter = NetlinkSocket.open(NETLINK_NETFILTER, namespace);
  const generation = rulesGeneration(netfilter);
  if (generation === undefined) return { generation, tables: [] };
  const tables = netfilter.dump(GET_TABLE, Buffer.alloc(NFGENMSG_SIZE)).map(({ payload }) => {
    const name = attributesOf(payload, NFGENMSG_SIZE).get(NFTA_TABLE_NAME)?.toString("utf8").replace(/\0$/, "");
    return `${FAMILIES[payload[0] ?? 0] ?? payload[0]} ${name}`;
  });
  return { generation, tables };
}

/** Whether somebody uses iptables of the older kind there. */
export function hasLegacyTables(namespace: NetNamespace): boolean {
  return namespace.enter(() => LEGACY_TABLES.some((file) => contentOf(file).trim() !== ""));
}

/**
 * Forgets every tracked connection of a namespace. False: this kernel cannot be asked for that. Throws SystemError for any
 * other refusal.
 */
export function forgetTracked(namespace: NetNamespace): boolean {
  using netfilter = NetlinkSocket.open(NETLINK_NETFILTER, namespace);
  const result = netfilter.change(DELETE_TRACKED, 0, Buffer.alloc(NFGENMSG_SIZE));
  // The module nf_conntrack_netlink is not there.
  if (result === -Errno.EINVAL || result === -Errno.EOPNOTSUPP) return false;
  if (result < 0) throw new SystemError("forget tracked connections", result);
  return true;
}

function contentOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    // The kernel has no such tables.
    return "";
  }
}
