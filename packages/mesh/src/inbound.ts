import { canonicalIp, parsePort, parseSocketAddress, type SocketAddress } from "@tulle/base";
import { isGatewayWorkload } from "./gateway.ts";
import { targetPort } from "./load-balancer.ts";
import { type Service, serviceKey, type Workload } from "./model.ts";
import { ILLEGAL_PORTS } from "./outbound.ts";
import { bestService } from "./service-index.ts";
import type { MeshState } from "./state.ts";

export interface InboundQuery {
  /** The pod in whose namespace the listener is. */
  readonly local: Workload;
  /** `:authority` as received; undefined when it is missing. */
  readonly authority: string | undefined;
  /** The address that the HBONE connection was made to (the pod's, port 15008). */
  readonly connectionDestination: SocketAddress;
  /** NETWORK: the proxy's own network. */
  readonly network: string;
}

export type InboundRejectionCode =
  | "INVALID_AUTHORITY"
  | "IP_MISMATCH"
  | "UNKNOWN_HOSTNAME"
  | "NO_TARGET_PORT"
  | "SELF_CALL"
  | "UNSUPPORTED_FEATURE";

export type InboundDecision =
  /** Authorize for `target`, then connect to it. It is always an address of the local pod. */
  | { readonly kind: "connect"; readonly target: SocketAddress; readonly service: Service | undefined }
  /** Answer with `status` (§2.4). */
  | {
      readonly kind: "reject";
      readonly status: 400 | 503;
      readonly code: InboundRejectionCode;
      readonly message: string;
    };

/** Where a CONNECT that arrived at a pod's 15008 leads (§4.1, steps 3–5). Never throws. */
export function resolveInbound(state: MeshState, query: InboundQuery): InboundDecision {
  const { local, connectionDestination } = query;
  const authority = parseAuthority(query.authority);
  if (authority === undefined) {
    return reject(400, "INVALID_AUTHORITY", `no valid authority pseudo header: ${query.authority ?? "missing"}`);
  }
  if (!isAcceptable(state, query, authority)) {
    const { host } = authority;
    return reject(400, "IP_MISMATCH", `ip mismatch: ${connectionDestination.ip} != ${host}`);
  }
  const upstream = authority.ip === undefined ? byHostname(state, local, authority) : { port: authority.port };
  if ("kind" in upstream) return upstream;
  if (ILLEGAL_PORTS.has(upstream.port)) return reject(503, "SELF_CALL", "attempted recursive call to ourselves");
  if (local.applicationTunnel !== undefined) {
    return reject(503, "UNSUPPORTED_FEATURE", `unsupported feature: application tunnel of ${local.name}`);
  }
  const target = { ip: connectionDestination.ip, port: upstream.port };
  return { kind: "connect", target, service: upstream.service };
}

/** Must a plaintext connection to this port be dropped because it would call the proxy itself (§1.5)? */
export function isIllegalPort(port: number): boolean {
  return ILLEGAL_PORTS.has(port);
}

/**
 * The service that an inbound connection is counted for: the one the client names (`Forwarded host=`), if the workload
 * belongs to it; else one whose endpoints listen on this port. A label, never a basis for a decision.
 */
export function inboundService(
  state: MeshState,
  local: Workload,
  port: number,
  forwardedHost: string | undefined,
): Service | undefined {
  let byPort: Service | undefined;
  for (const [key, ports] of local.services) {
    const service = state.service(key);
    if (service === undefined) continue;
    if (service.hostname === forwardedHost) return service;
    if (byPort !== undefined) continue;
    const listens = [...ports.values()].includes(port) || [...service.ports.values()].includes(port);
    if (listens) byPort = service;
  }
  return byPort;
}

interface Authority {
  readonly host: string;
  /** Canonical; undefined when `host` is a name. */
  readonly ip: string | undefined;
  readonly port: number;
}

/** `ip:port`, `[v6]:port` or `hostname:port`. */
function parseAuthority(text: string | undefined): Authority | undefined {
  if (text === undefined) return undefined;
  const address = parseSocketAddress(text);
  if (address !== undefined) return { host: address.ip, ip: address.ip, port: address.port };
  const colon = text.lastIndexOf(":");
  const port = colon < 0 ? undefined : parsePort(text.slice(colon + 1));
  const host = text.slice(0, Math.max(0, colon)).toLowerCase();
  if (port === undefined || !HOSTNAME.test(host) || canonicalIp(host) !== undefined) return undefined;
  return { host, ip: undefined, port };
}

/** Letters, digits, `-`, `_` and `.`; a name of digits and dots only would be a misspelt address. */
const HOSTNAME = /^(?=.{1,253}$)(?![0-9.]+$)[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?$/;

/** Is the tunnel's target this pod, or something that this pod is the waypoint of (§4.1 step 4)? */
function isAcceptable(state: MeshState, query: InboundQuery, authority: Authority): boolean {
  const { local, connectionDestination, network } = query;
  if (authority.ip === undefined || authority.ip === connectionDestination.ip) return true;
  if (local.applicationTunnel !== undefined) return true;
  const owner = state.addressOwner(network, authority.ip, local.namespace);
  const waypoint = owner?.kind === "service" ? owner.service.waypoint : owner?.workload.waypoint;
  return waypoint !== undefined && isGatewayWorkload(state, waypoint, local);
}

function byHostname(
  state: MeshState,
  local: Workload,
  authority: Authority,
): { readonly port: number; readonly service?: Service } | InboundDecision {
  const name = authority.host.endsWith(".") ? authority.host.slice(0, -1) : authority.host;
  const service = bestService(state.servicesByHostname(name), local.namespace);
  if (service !== undefined) {
    const port = targetPort(service, serviceKey(service), local, authority.port);
    if (port !== undefined) return { port, service };
    const what = `${serviceKey(service)}:${authority.port}`;
    return reject(503, "NO_TARGET_PORT", `requested service ${what} found, but cannot resolve port`);
  }
  if (state.anyWorkloadByHostname(name) !== undefined) return { port: authority.port };
  return reject(503, "UNKNOWN_HOSTNAME", `no service or workload for hostname: ${name}`);
}

function reject(status: 400 | 503, code: InboundRejectionCode, message: string): InboundDecision {
  return { kind: "reject", status, code, message };
}
