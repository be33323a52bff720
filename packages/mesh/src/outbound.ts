import {
  type Cidr,
  cidrContains,
  formatIdentity,
  formatSocketAddress,
  INBOUND_HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  isIpv6,
  isLoopback,
  OUTBOUND_PORT,
  parseIdentity,
  type Random,
  type SocketAddress,
} from "@tulle/base";
import { type AddressChoice, chooseAddress } from "./address-choice.ts";
import { pickWeighted } from "./endpoints.ts";
import { formatGateway, isGatewayWorkload, resolveGateway } from "./gateway.ts";
import { pickEndpoint } from "./load-balancer.ts";
import { type GatewayAddress, type Service, type Workload, workloadIdentity } from "./model.ts";
import type { AddressOwner, MeshState } from "./state.ts";

export interface OutboundQuery {
  /** The pod whose connection was captured. */
  readonly source: Workload;
  /** Its address on this connection; if given, it must be one of the waypoint's own for "this is the waypoint itself". */
  readonly sourceIp?: string;
  /** Where the application wanted to go (original destination, canonical). */
  readonly destination: SocketAddress;
  /** NETWORK: the proxy's own network. */
  readonly network: string;
  /** MESH_CIDRS: what lies in there and is not known is refused instead of passed through. */
  readonly meshCidrs: readonly Cidr[];
  readonly random: Random;
  /** Workloads (uid) that a connection was refused by already: another one is picked. */
  readonly exclude?: ReadonlySet<string>;
}

/** Why not. `message` is the text of §9.6 for logs; `code` is stable. */
export interface Refusal {
  readonly code: RefusalCode;
  readonly message: string;
}

export type RefusalCode =
  | "SELF_CALL"
  | "NOT_SYNCED"
  | "UNKNOWN_WAYPOINT"
  | "UNKNOWN_MESH_ADDRESS"
  | "NO_HEALTHY_UPSTREAM"
  | "NO_ROUTING_DESTINATION"
  | "NO_SERVICE_FOR_ADDRESS"
  | "UNSUPPORTED_FEATURE"
  | "DNS_FAILED";

interface Route {
  readonly connect: SocketAddress;
  /** What is connected to: the endpoint, or the waypoint. */
  readonly workload: Workload;
  /** The service that the application addressed (telemetry, `Forwarded host=`). */
  readonly service: Service | undefined;
}

export interface HboneRoute extends Route {
  readonly kind: "hbone";
  /** `:authority` of the CONNECT. */
  readonly authority: string;
  /** SPIFFE URIs of which the peer must present one; never empty. */
  readonly identities: readonly string[];
  readonly viaWaypoint: GatewayAddress | undefined;
}

export type OutboundDecision =
  | HboneRoute
  /** A known destination that does not speak HBONE. */
  | ({ readonly kind: "tcp" } & Route)
  /** Not ours: straight to the original destination. `service`: one of mode Passthrough. */
  | { readonly kind: "passthrough"; readonly connect: SocketAddress; readonly service: Service | undefined }
  /** The endpoint has a name instead of an address: look it up, then call `complete`. */
  | {
      readonly kind: "dns";
      readonly hostname: string;
      /** Which addresses can be used; `any`: both, `preferred` first. */
      readonly family: "IPv4" | "IPv6" | "any";
      readonly workload: Workload;
      complete(answer: DnsAnswer): OutboundDecision;
    }
  /** Something that should be known is not (yet): decide again when the mesh changes; after 5 s refuse with `refusal`. */
  | { readonly kind: "wait"; readonly refusal: Refusal }
  | ({ readonly kind: "refuse" } & Refusal);

export type DnsAnswer = { readonly addresses: readonly string[] } | { readonly error: string };

/** Ports that a proxy must never be made to call on itself (§1.5). */
export const ILLEGAL_PORTS: ReadonlySet<number> = new Set([OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, INBOUND_HBONE_PORT]);

const SELF_CALL: Refusal = { code: "SELF_CALL", message: "attempted recursive call to ourselves" };

/** What to do with a captured connection (§3, steps 0 and 2–8). Never throws. */
export function resolveOutbound(state: MeshState, query: OutboundQuery): OutboundDecision {
  const { source, destination, network } = query;
  if (isLoopback(destination.ip) && ILLEGAL_PORTS.has(destination.port)) return refuse(SELF_CALL);
  if (!state.synced) {
    return {
      kind: "wait",
      refusal: { code: "NOT_SYNCED", message: "the mesh configuration has not been received yet" },
    };
  }
  const addressed = state.addressOwner(network, destination.ip, source.namespace);
  const service = addressed?.kind === "service" ? addressed.service : undefined;
  if (service !== undefined) {
    const waypoint = waypointOf(service, query.random);
    if (waypoint !== undefined) return throughWaypoint(state, query, waypoint, service);
  }
  const upstream = findUpstream(state, query);
  if (upstream.kind === "passthrough") return { kind: "passthrough", connect: destination, service: upstream.service };
  if (upstream.kind === "none") return withoutUpstream(state, query, addressed);
  const { workload } = upstream;
  if (workload.network !== source.network) return acrossNetworks(query, workload, service);
  if (service === undefined && workload.waypoint !== undefined && !isWaypointItself(state, query, workload.waypoint)) {
    return throughWaypoint(state, query, workload.waypoint, undefined);
  }
  return direct(query, upstream);
}

type Upstream =
  | {
      readonly kind: "found";
      readonly workload: Workload;
      readonly port: number;
      readonly service: Service | undefined;
    }
  | { readonly kind: "passthrough"; readonly service: Service }
  | { readonly kind: "none" };

/** Step 4: here a service goes before a workload of the same address. */
function findUpstream(state: MeshState, query: OutboundQuery): Upstream {
  const { source, destination, random, exclude } = query;
  const service = state.serviceByVip(source.network, destination.ip, source.namespace);
  if (service !== undefined) {
    if (service.loadBalancer?.mode === "Passthrough") return { kind: "passthrough", service };
    const port = destination.port;
    const picked = pickEndpoint(state, { source, service, port, mode: "standard", random, exclude });
    return picked === undefined ? { kind: "none" } : { kind: "found", ...picked, service };
  }
  const workload = state.workloadByIp(source.network, destination.ip);
  if (workload === undefined || exclude?.has(workload.uid)) return { kind: "none" };
  return { kind: "found", workload, port: destination.port, service: undefined };
}

/** Step 5. A service without endpoints is an error; only what nobody knows passes, unless it should be known. */
function withoutUpstream(
  state: MeshState,
  query: OutboundQuery,
  addressed: AddressOwner | undefined,
): OutboundDecision {
  const { destination, network, meshCidrs } = query;
  const text = formatSocketAddress(destination);
  if (addressed !== undefined) {
    return refuse({ code: "NO_HEALTHY_UPSTREAM", message: `no healthy upstream: ${text}` });
  }
  const inMesh = meshCidrs.some((cidr) => cidrContains(cidr, destination.ip));
  if (!inMesh || state.isHostAddress(network, destination.ip)) {
    return { kind: "passthrough", connect: destination, service: undefined };
  }
  const message = `unknown destination: ${text} is in MESH_CIDRS, but no workload or service has this address`;
  return { kind: "wait", refusal: { code: "UNKNOWN_MESH_ADDRESS", message } };
}

/** Steps 3 and 7: the tunnel's target is what the application asked for; the waypoint decides what that means. */
function throughWaypoint(
  state: MeshState,
  query: OutboundQuery,
  waypoint: GatewayAddress,
  service: Service | undefined,
): OutboundDecision {
  const { source, destination, random, exclude } = query;
  const name = formatGateway(waypoint.destination);
  const found = resolveGateway(state, { gateway: waypoint, source, random, exclude });
  switch (found.kind) {
    case "unknown":
      return waitForWaypoint(`waypoint ${name} not found`);
    case "unavailable": {
      const decision = waitForWaypoint(`waypoint ${name} has no healthy endpoint`);
      // A retry has nothing to wait for: the endpoints that there are were tried.
      return exclude === undefined || exclude.size === 0 ? decision : refuse(decision.refusal);
    }
    case "found":
      break;
    default:
      return found satisfies never;
  }
  const { workload, port } = found;
  if (workload.network !== source.network) return acrossNetworks(query, workload, service);
  const { destination: address } = waypoint;
  const requested = address.kind === "address" ? address.ip : destination.ip;
  return withAddress(chooseAddress(workload, found.service, requested), query, workload, (ip) => ({
    kind: "hbone",
    connect: { ip, port },
    authority: formatSocketAddress(destination),
    identities: acceptedIdentities(workload, found.service),
    workload,
    service,
    viaWaypoint: waypoint,
  }));
}

/** Step 8. */
function direct(query: OutboundQuery, upstream: Extract<Upstream, { kind: "found" }>): OutboundDecision {
  const { workload, service, port } = upstream;
  return withAddress(chooseAddress(workload, service, query.destination.ip), query, workload, (ip) => {
    if (workload.protocol === "TCP") return { kind: "tcp", connect: { ip, port }, workload, service };
    return {
      kind: "hbone",
      connect: { ip, port: INBOUND_HBONE_PORT },
      authority: formatSocketAddress({ ip, port }),
      identities: acceptedIdentities(workload, service),
      workload,
      service,
      viaWaypoint: undefined,
    };
  });
}

function withAddress(
  choice: AddressChoice,
  query: OutboundQuery,
  workload: Workload,
  route: (ip: string) => OutboundDecision,
): OutboundDecision {
  switch (choice.kind) {
    case "ip":
      return route(choice.ip);
    case "none":
      return refuse(noDestination(workload));
    case "hostname": {
      const { hostname, family, preferred } = choice;
      const complete = (answer: DnsAnswer): OutboundDecision => {
        if ("error" in answer) return refuse({ code: "DNS_FAILED", message: `dns lookup: ${answer.error}` });
        const ip = pickAnswer(answer.addresses, family, preferred, query.random);
        if (ip !== undefined) return route(ip);
        const message = `no ip addresses were resolved for workload: ${formatWorkload(workload)}`;
        return refuse({ code: "DNS_FAILED", message });
      };
      return { kind: "dns", hostname, family, workload, complete };
    }
    default:
      return choice satisfies never;
  }
}

function pickAnswer(
  addresses: readonly string[],
  family: "IPv4" | "IPv6" | "any",
  preferred: "IPv4" | "IPv6",
  random: Random,
): string | undefined {
  const of = (wanted: "IPv4" | "IPv6") => addresses.filter((ip) => isIpv6(ip) === (wanted === "IPv6"));
  const matching = of(family === "any" ? preferred : family);
  const usable = matching.length > 0 || family !== "any" ? matching : addresses;
  return usable[Math.floor(random() * usable.length)];
}

/** Step 6. The path through a gateway of another network (double HBONE) does not exist yet. */
function acrossNetworks(query: OutboundQuery, workload: Workload, service: Service | undefined): OutboundDecision {
  if (workload.networkGateway === undefined) return refuse(noDestination(workload));
  if (service === undefined) {
    const message = `no service for target address: ${formatSocketAddress(query.destination)}`;
    return refuse({ code: "NO_SERVICE_FOR_ADDRESS", message });
  }
  const message = `unsupported feature: double HBONE to ${formatWorkload(workload)} in network "${workload.network}"`;
  return refuse({ code: "UNSUPPORTED_FEATURE", message });
}

/** The waypoint's own connections go straight to the workload. */
function isWaypointItself(state: MeshState, query: OutboundQuery, waypoint: GatewayAddress): boolean {
  const { source, sourceIp } = query;
  if (sourceIp !== undefined && !source.addresses.includes(sourceIp)) return false;
  return isGatewayWorkload(state, waypoint, source);
}

function waypointOf(service: Service, random: Random): GatewayAddress | undefined {
  return pickWeighted(service.weightedWaypoints, (item) => item.weight, random)?.destination ?? service.waypoint;
}

/** The workload's own identity and what else the service's endpoints may present; unreadable names are dropped. */
function acceptedIdentities(workload: Workload, service: Service | undefined): readonly string[] {
  const own = formatIdentity(workloadIdentity(workload));
  const names = service?.subjectAltNames ?? [];
  if (names.length === 0) return [own];
  return [...new Set([own, ...names.filter((name) => parseIdentity(name) !== undefined)])];
}

function waitForWaypoint(text: string): Extract<OutboundDecision, { kind: "wait" }> {
  return { kind: "wait", refusal: { code: "UNKNOWN_WAYPOINT", message: `unknown waypoint: ${text}` } };
}

function noDestination(workload: Workload): Refusal {
  return {
    code: "NO_ROUTING_DESTINATION",
    message: `no valid routing destination for workload: ${formatWorkload(workload)}`,
  };
}

function refuse(refusal: Refusal): OutboundDecision {
  return { kind: "refuse", ...refusal };
}

/** `Workload{name with uid u (HBONE)}`, as error texts name it. */
export function formatWorkload(workload: Workload): string {
  return `Workload{${workload.name} with uid ${workload.uid} (${workload.protocol})}`;
}
