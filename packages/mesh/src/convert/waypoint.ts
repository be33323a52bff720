import { canonicalIp, INBOUND_HBONE_PORT, type LabelSelector, matchesSelector, parsePort } from "@tulle/base";
import type { ApplicationTunnel, GatewayAddress } from "../model.ts";
import type { KubeGateway, KubeGatewayClass, KubeListener } from "./istio-objects.ts";
import { annotationOf, keyOf, type Labels, labelOf, namespaceOf } from "./kubernetes.ts";

/** A Gateway as what objects may name as their waypoint. */
export interface Waypoint {
  /** `namespace/name` of the Gateway. */
  readonly key: string;
  readonly namespace: string;
  /** undefined: its status has none yet. */
  readonly address: GatewayAddress | undefined;
  /** `service`, `workload`, `all`, `none`; what is unknown matches nothing. */
  readonly trafficType: string;
  readonly allowed: AllowedNamespaces;
  /** How its own pods want connections handed over. */
  readonly applicationTunnel: ApplicationTunnel | undefined;
}

export interface AllowedNamespaces {
  /** `Same`, `All` or `Selector`; anything else allows none. */
  readonly from: string;
  readonly selector: LabelSelector;
}

/** Finds a waypoint by `namespace/name`. */
export type WaypointLookup = (key: string) => Waypoint | undefined;

const WAYPOINT_FOR = "istio.io/waypoint-for";
const DEFAULT_TRAFFIC_TYPE = "service";
const INBOUND_BINDING = "ambient.istio.io/waypoint-inbound-binding";
const PROXY_LISTENER = "istio.io/PROXY";
const SAME_NAMESPACE: AllowedNamespaces = { from: "Same", selector: {} };

/** Any Gateway can be a waypoint, whatever its class (control-plane.md §2.6). `network`: where its IP address is. */
export function readWaypoint(from: KubeGateway, gatewayClass: KubeGatewayClass | undefined, network: string): Waypoint {
  const inherited = gatewayClass ?? {};
  const binding = readBinding(annotationOf(from, INBOUND_BINDING) ?? annotationOf(inherited, INBOUND_BINDING));
  return {
    key: keyOf(from),
    namespace: namespaceOf(from),
    address: addressOf(from, network),
    trafficType: labelOf(from, WAYPOINT_FOR) ?? labelOf(inherited, WAYPOINT_FOR) ?? DEFAULT_TRAFFIC_TYPE,
    allowed: allowedNamespaces(from.spec?.listeners ?? [], binding),
    applicationTunnel: binding,
  };
}

export function handles(waypoint: Waypoint, traffic: "service" | "workload"): boolean {
  return waypoint.trafficType === "all" || waypoint.trafficType === traffic;
}

/** Whether objects of a namespace may use the waypoint. */
export function allows(waypoint: Waypoint, namespace: string, labels: Labels): boolean {
  switch (waypoint.allowed.from) {
    case "All":
      return true;
    case "Same":
      return waypoint.namespace === namespace;
    case "Selector":
      return matchesSelector(waypoint.allowed.selector, labels);
    default:
      return false;
  }
}

/** A hostname outlives the service's addresses, so it is preferred. */
function addressOf(from: KubeGateway, network: string): GatewayAddress | undefined {
  const addresses = from.status?.addresses ?? [];
  const hboneMtlsPort = INBOUND_HBONE_PORT;
  const named = addresses.find(({ type, value }) => type === "Hostname" && value !== undefined && value !== "");
  if (named?.value !== undefined) {
    const destination = { kind: "hostname", namespace: namespaceOf(from), hostname: named.value } as const;
    return { destination, hboneMtlsPort };
  }
  for (const { type = "IPAddress", value = "" } of addresses) {
    const ip = type === "IPAddress" ? canonicalIp(value) : undefined;
    if (ip !== undefined) return { destination: { kind: "address", network, ip }, hboneMtlsPort };
  }
  return undefined;
}

/** `PROTOCOL` or `PROTOCOL/port`; undefined when there is none or it is not understood. */
function readBinding(text: string | undefined): ApplicationTunnel | undefined {
  if (text === undefined) return undefined;
  const [protocol, port, ...more] = text.split("/");
  if ((protocol !== "NONE" && protocol !== "PROXY") || more.length > 0) return undefined;
  if (port === undefined) return { protocol, port: undefined };
  const number = parsePort(port);
  return number === undefined ? undefined : { protocol, port: number === 0 ? undefined : number };
}

/** The listener that connections are handed to says who may attach, else the HBONE one. */
function allowedNamespaces(
  listeners: readonly KubeListener[],
  binding: ApplicationTunnel | undefined,
): AllowedNamespaces {
  const listener =
    boundListener(listeners, binding) ??
    listeners.find(({ protocol, port }) => protocol === "HBONE" && port === INBOUND_HBONE_PORT);
  const namespaces = listener?.allowedRoutes?.namespaces;
  if (namespaces === undefined) return SAME_NAMESPACE;
  // A missing selector selects nothing: `In` needs a value, and there is none.
  const nothing: LabelSelector = { matchExpressions: [{ key: "", operator: "In", values: [] }] };
  return { from: namespaces.from ?? "Same", selector: namespaces.selector ?? nothing };
}

function boundListener(
  listeners: readonly KubeListener[],
  binding: ApplicationTunnel | undefined,
): KubeListener | undefined {
  if (binding === undefined) return undefined;
  if (binding.port !== undefined) return listeners.find(({ port }) => port === binding.port);
  return binding.protocol === "PROXY" ? listeners.find(({ protocol }) => protocol === PROXY_LISTENER) : undefined;
}
