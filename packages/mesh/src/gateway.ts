import type { Random } from "@tulle/base";
import { pickEndpoint } from "./load-balancer.ts";
import type { GatewayAddress, GatewayDestination, Service, Workload } from "./model.ts";
import { serviceKey } from "./model.ts";
import type { MeshState } from "./state.ts";

/** `unknown`: nothing has that address; `unavailable`: it is known but no endpoint of it can be used. */
export type GatewayLookup =
  | {
      readonly kind: "found";
      readonly workload: Workload;
      /** Where it takes HBONE. */
      readonly port: number;
      /** The service in front of it, if the address was one. */
      readonly service: Service | undefined;
    }
  | { readonly kind: "unknown" | "unavailable" };

export interface GatewayQuery {
  readonly gateway: GatewayAddress;
  readonly source: Workload;
  readonly random: Random;
  readonly exclude?: ReadonlySet<string> | undefined;
}

/** The workload behind a waypoint's address: an endpoint of the service that has it, else the workload (§3). */
export function resolveGateway(state: MeshState, query: GatewayQuery): GatewayLookup {
  const { gateway, source, random, exclude } = query;
  const owner = gatewayOwner(state, gateway.destination, source.namespace);
  if (owner === undefined) return { kind: "unknown" };
  if (owner.kind === "workload") {
    if (exclude?.has(owner.workload.uid)) return { kind: "unavailable" };
    return { kind: "found", workload: owner.workload, port: gateway.hboneMtlsPort, service: undefined };
  }
  const { service } = owner;
  const picked = pickEndpoint(state, {
    source,
    service,
    port: gateway.hboneMtlsPort,
    mode: "waypoint",
    random,
    exclude,
  });
  return picked === undefined ? { kind: "unavailable" } : { kind: "found", ...picked, service };
}

/** Is this workload (one of) what the address stands for? Health does not matter: it may be draining. */
export function isGatewayWorkload(state: MeshState, gateway: GatewayAddress, workload: Workload): boolean {
  const owner = gatewayOwner(state, gateway.destination, workload.namespace);
  if (owner === undefined) return false;
  if (owner.kind === "workload") return owner.workload.uid === workload.uid;
  return state.isMember(serviceKey(owner.service), workload.uid);
}

/** `ns/host` or `network/ip`, as in errors and in the configuration dump. */
export function formatGateway(destination: GatewayDestination): string {
  return destination.kind === "address"
    ? `${destination.network}/${destination.ip}`
    : `${destination.namespace}/${destination.hostname}`;
}

type GatewayOwner =
  | { readonly kind: "workload"; readonly workload: Workload }
  | { readonly kind: "service"; readonly service: Service };

/** `namespace`: who asks, for services that only their own namespace sees. */
function gatewayOwner(state: MeshState, destination: GatewayDestination, namespace: string): GatewayOwner | undefined {
  if (destination.kind === "hostname") {
    const service = state.service(`${destination.namespace}/${destination.hostname}`);
    if (service !== undefined) return { kind: "service", service };
    const workload = state.workloadByHostname(destination.namespace, destination.hostname);
    return workload && { kind: "workload", workload };
  }
  const service = state.serviceByVip(destination.network, destination.ip, namespace);
  if (service !== undefined) return { kind: "service", service };
  const workload = state.workloadByIp(destination.network, destination.ip);
  return workload && { kind: "workload", workload };
}
