import type { AdsServer, XdsPeer } from "@tulle/xds";
import type { Caller } from "../auth/authenticator.ts";
import type { NodeAccounts } from "../auth/node-accounts.ts";

/** A node proxy that is connected. */
export interface ConnectedProxy {
  readonly namespace: string;
  readonly pod: string;
}

const ZTUNNEL = "ztunnel~";

/** Node proxies among the clients, or among some of them. */
export function connectedProxies(
  ads: AdsServer<Caller>,
  peers: readonly XdsPeer<Caller>[] = ads.clients().map(({ peer }) => peer),
): ConnectedProxy[] {
  return peers.flatMap(({ node, principal: { namespace, pod } }) =>
    // Admission has seen to it that only node proxies have this type, and that they are bound to a pod.
    node.id.startsWith(ZTUNNEL) && pod !== undefined ? [{ namespace, pod: pod.name }] : [],
  );
}

/** `namespace/name` of node proxies that run and are ready, and have no stream. */
export function missingProxies(ads: AdsServer<Caller>, accounts: NodeAccounts): string[] {
  const connected = new Set(connectedProxies(ads).map(({ namespace, pod }) => `${namespace}/${pod}`));
  return accounts.running().flatMap(({ metadata, status }) => {
    const name = `${metadata.namespace ?? ""}/${metadata.name}`;
    const isReady =
      status?.conditions?.some(({ type, status: value }) => type === "Ready" && value === "True") ?? false;
    return isReady && !connected.has(name) ? [name] : [];
  });
}
