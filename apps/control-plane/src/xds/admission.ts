import type { XdsAdmission, XdsPeer, XdsRefusal } from "@tulle/xds";
import { type Caller, quoted } from "../auth/authenticator.ts";
import type { NodeAccounts } from "../auth/node-accounts.ts";
import { parseProxyNode, type ProxyNode } from "./proxy-node.ts";

/**
 * Whether a caller may speak for the node that it names. Its token says who it is, the Pod object where it runs; what it
 * says of itself must agree with both. Everything of a type, and the type ztunnel, are for node proxies only.
 */
export async function admit(peer: XdsPeer<Caller>, accounts: NodeAccounts): Promise<XdsAdmission | XdsRefusal> {
  const caller = peer.principal;
  const node = parseProxyNode(peer.node);
  if (typeof node === "string") return refuse(node);
  const problem = contradiction(caller, node);
  if (problem !== undefined) return refuse(problem);
  if (node.type !== "ztunnel" && !accounts.isTrusted(caller)) return { ok: true, wildcard: false };
  const proxy = await accounts.nodeOf(caller);
  if (!proxy.ok) return refuse(`it is not a node proxy: ${proxy.reason}`);
  if (node.nodeName !== proxy.node) {
    return refuse(`its pod runs on node ${proxy.node}, but NODE_NAME says ${quoted(node.nodeName)}`);
  }
  return { ok: true };
}

/** Where a node says something else of itself than the token; undefined: nowhere. */
export function contradiction(caller: Caller, node: ProxyNode): string | undefined {
  const { namespace, serviceAccount, pod } = caller;
  if (node.namespace !== namespace) {
    return `the token is of namespace ${namespace}, the node says ${quoted(node.namespace)}`;
  }
  if (node.podNamespace !== namespace) {
    return `the token is of namespace ${namespace}, the node id says ${quoted(node.podNamespace)}`;
  }
  if (node.serviceAccount !== "" && node.serviceAccount !== serviceAccount) {
    return `the token is of account ${serviceAccount}, SERVICE_ACCOUNT says ${quoted(node.serviceAccount)}`;
  }
  if (pod !== undefined && node.pod !== pod.name) {
    return `the token is of pod ${pod.name}, the node id says ${quoted(node.pod)}`;
  }
  return undefined;
}

function refuse(reason: string): XdsRefusal {
  return { ok: false, reason };
}
