import { setLoopbackUp } from "../netlink/routing.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/netlink-socket.ts";
import { NetNamespace } from "../net-namespace.ts";
import { applyTables, type CanonicalRuleset, listRuleset } from "./nftables.ts";
import { applyRouting, readRouting } from "./pod-routing.ts";
import { formatTransaction, type Table } from "./ruleset.ts";

/** Listings of rehearsed rulesets. More variants than a node's pods have; the oldest goes. */
const MAX_REHEARSALS = 64;
const rehearsals = new Map<string, Promise<CanonicalRuleset>>();

/**
 * What nft and this kernel make of tables: they are loaded into a network namespace that exists for this only, once for
 * each text. `routing`: with policy routing, as in a pod. Throws CommandError or SystemError when it cannot be done here.
 */
export async function rehearsed(
  tables: readonly Table[],
  routing: { readonly ipv6: boolean } | undefined,
): Promise<CanonicalRuleset> {
  const key = `${routing?.ipv6}\n${formatTransaction({ remove: [], add: tables })}`;
  const known = rehearsals.get(key);
  if (known !== undefined) return known;
  const rehearsal = rehearse(tables, routing);
  if (rehearsals.size >= MAX_REHEARSALS) rehearsals.delete(rehearsals.keys().next().value ?? "");
  // From the start: pods that come together share it.
  rehearsals.set(key, rehearsal);
  try {
    return await rehearsal;
  } catch (error) {
    rehearsals.delete(key);
    throw error;
  }
}

async function rehearse(
  tables: readonly Table[],
  routing: { readonly ipv6: boolean } | undefined,
): Promise<CanonicalRuleset> {
  using namespace = NetNamespace.create();
  using route = NetlinkSocket.open(NETLINK_ROUTE, namespace);
  setLoopbackUp(route);
  if (routing !== undefined) applyRouting(namespace, readRouting(namespace, routing.ipv6));
  const path = `/proc/${process.pid}/fd/${namespace.descriptor}`;
  await applyTables(path, { remove: [], add: tables });
  return listRuleset(path);
}
