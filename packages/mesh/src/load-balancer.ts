import type { Random } from "@tulle/base";
import type { RoutingScope, Service, ServiceKey, Workload } from "./model.ts";
import { serviceKey } from "./model.ts";
import type { MeshState } from "./state.ts";

export interface EndpointQuery {
  readonly source: Workload;
  readonly service: Service;
  /** The service's port that was asked for. */
  readonly port: number;
  /** `waypoint`: the port need not be one of the service's if the endpoint has an application tunnel (§3.2). */
  readonly mode: "standard" | "waypoint";
  readonly random: Random;
  /** Workloads (uid) that were tried already. */
  readonly exclude?: ReadonlySet<string> | undefined;
}

export interface PickedEndpoint {
  readonly workload: Workload;
  readonly port: number;
}

/**
 * One endpoint of a service (§3.2). Endpoints in the source's own network go first, because a gateway between networks
 * (double HBONE) cannot be used yet.
 */
export function pickEndpoint(state: MeshState, query: EndpointQuery): PickedEndpoint | undefined {
  const { service, source, port, mode, random, exclude } = query;
  if (mode === "standard" && !service.ports.has(port)) return undefined;
  const key = serviceKey(service);
  const pool = state.endpoints(service, key);
  const usable = (workload: Workload) =>
    !exclude?.has(workload.uid) && targetPort(service, key, workload, port) !== undefined;
  const local = (workload: Workload) =>
    workload.network === source.network && isReachable(workload) && usable(workload);
  const remote = (workload: Workload) =>
    workload.network !== source.network && workload.networkGateway !== undefined && usable(workload);

  const balancer = service.loadBalancer;
  const scopes = balancer?.routingPreferences ?? [];
  const pick = (accept: (workload: Workload) => boolean) => {
    switch (balancer?.mode) {
      case "Strict":
        return pool.pick(random, (w) => accept(w) && scopes.every((scope) => sameScope(scope, source, w)));
      case "Failover":
        return pool.pickHighest(random, accept, (w) => failoverRank(scopes, source, w));
      default:
        return pool.pick(random, accept);
    }
  };
  const workload = pick(local) ?? pick(remote);
  const target = workload && targetPort(service, key, workload, port);
  return workload === undefined || target === undefined ? undefined : { workload, port: target };
}

/**
 * The port that an endpoint of a service listens on: its own mapping, then the service's target port, then, for an
 * application tunnel, the port that was asked for.
 */
export function targetPort(
  service: Service,
  key: ServiceKey,
  workload: Workload,
  servicePort: number,
): number | undefined {
  const own = workload.services.get(key)?.get(servicePort);
  if (own !== undefined && own > 0) return own;
  const common = service.ports.get(servicePort);
  if (common !== undefined && common > 0) return common;
  return workload.applicationTunnel === undefined ? undefined : servicePort;
}

/**
 * How many preferences hold, counted up to the first that does not. If the network is the first preference, it outweighs
 * all others together, and endpoints elsewhere are still ordered by the rest.
 */
export function failoverRank(scopes: readonly RoutingScope[], source: Workload, endpoint: Workload): number {
  let rank = 0;
  for (const [i, scope] of scopes.entries()) {
    const same = sameScope(scope, source, endpoint);
    if (i === 0 && scope === "Network") {
      if (same) rank += scopes.length;
      continue;
    }
    if (!same) break;
    rank++;
  }
  return rank;
}

function sameScope(scope: RoutingScope, source: Workload, endpoint: Workload): boolean {
  switch (scope) {
    case "Network":
      return source.network === endpoint.network;
    case "Region":
      return source.locality.region === endpoint.locality.region;
    case "Zone":
      return source.locality.zone === endpoint.locality.zone;
    case "Subzone":
      return source.locality.subzone === endpoint.locality.subzone;
    case "Node":
      return source.node === endpoint.node;
    case "Cluster":
      return source.clusterId === endpoint.clusterId;
    default:
      return scope satisfies never;
  }
}

function isReachable(workload: Workload): boolean {
  return workload.addresses.length > 0 || workload.hostname !== "" || workload.networkGateway !== undefined;
}
