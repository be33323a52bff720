import { canonicalIp } from "@tulle/base";
import { newService } from "../defaults.ts";
import type { AppProtocol, Service } from "../model.ts";
import type { Condition, MeshSettings } from "./context.ts";
import { type KubeNamespace, type KubeService, type KubeServicePort, nameOf, namespaceOf } from "./kubernetes.ts";
import { serviceLoadBalancer } from "./load-balancing.ts";
import { serviceWaypoints } from "./service-waypoints.ts";
import type { WaypointLookup } from "./waypoint.ts";

export interface ServiceContext {
  readonly settings: MeshSettings;
  /** Of the cluster. */
  readonly network: string;
  /** For what is inherited from it. */
  readonly namespace: KubeNamespace | undefined;
  readonly waypoints: WaypointLookup;
}

const MAX_PORT = 65_535;
/** Characters of what stands for a port in a message. */
const MAX_QUOTED = 64;

/** `undefined`: not a service of the mesh (ExternalName). */
export function convertService(
  from: KubeService,
  context: ServiceContext,
): { readonly service: Service; readonly conditions: readonly Condition[] } | undefined {
  if (from.spec?.type === "ExternalName") return undefined;
  const { settings, network, namespace, waypoints } = context;
  const ports = tcpFirst(from.spec?.ports ?? []);
  checkPorts(ports.flatMap((port) => [port.port, numericTarget(port)]));
  const bound = serviceWaypoints({ object: from, namespace, waypoints });
  const service = withProtocols(
    newService({
      name: nameOf(from),
      namespace: namespaceOf(from),
      hostname: serviceHostname(from, settings.clusterDomain),
      vips: clusterIps(from).map((ip) => ({ network, ip })),
      ports: firstOfEach(ports.map((port) => [port.port, numericTarget(port)])),
      waypoint: bound.waypoint,
      weightedWaypoints: bound.weightedWaypoints,
      loadBalancer: serviceLoadBalancer(from, namespace),
      ipFamilies: ipFamiliesOf(from.spec?.ipFamilies ?? []),
      canonical: true,
      ...(bound.ingressUseWaypoint && { ingressUseWaypoint: true }),
    }),
    ports.map((port) => [port.port, portProtocol(port)]),
  );
  return { service, conditions: bound.condition === undefined ? [] : [bound.condition] };
}

/** `<name>.<namespace>.svc.<domain>`. */
export function serviceHostname(service: KubeService, clusterDomain: string): string {
  return `${nameOf(service)}.${namespaceOf(service)}.svc.${clusterDomain}`;
}

/** One port number may be there twice, for TCP and UDP: the mesh carries TCP. Otherwise by number. */
export function tcpFirst(ports: readonly KubeServicePort[]): readonly KubeServicePort[] {
  const rank = (port: KubeServicePort) => (port.protocol === undefined || port.protocol === "TCP" ? 0 : 1);
  return ports.toSorted((a, b) => a.port - b.port || rank(a) - rank(b));
}

/** Canonical addresses; none of a headless service. */
export function clusterIps(service: KubeService): readonly string[] {
  const { clusterIP, clusterIPs, type } = service.spec ?? {};
  if (type === "ExternalName") return [];
  const listed = clusterIPs !== undefined && clusterIPs.length > 0 ? clusterIPs : [clusterIP ?? ""];
  return listed.map(canonicalIp).filter((ip) => ip !== undefined);
}

/** Throws Error when one of them is no number of a port: what cannot be encoded is not to come that far. */
export function checkPorts(ports: readonly unknown[]): void {
  for (const port of ports) {
    if (!isPort(port)) throw new Error(`${(JSON.stringify(port) ?? "nothing").slice(0, MAX_QUOTED)} is no port`);
  }
}

/** 0 stands for a port that is named elsewhere. */
export function isPort(port: unknown): port is number {
  return typeof port === "number" && Number.isInteger(port) && port >= 0 && port <= MAX_PORT;
}

/** What the API's words for protocols mean to proxies; undefined: they do not know it. */
export function appProtocol(word: string): AppProtocol | undefined {
  switch (word.toLowerCase()) {
    case "http":
      return "HTTP11";
    case "http2":
    case "kubernetes.io/h2c":
      return "HTTP2";
    case "grpc":
      return "GRPC";
    case "tls":
    case "https":
      return "TLS";
    case "tcp":
      return "TCP";
    default:
      return undefined;
  }
}

/** Of ports with one number the first counts. */
export function withProtocols(
  service: Service,
  protocols: readonly (readonly [port: number, protocol: AppProtocol | undefined])[],
): Service {
  const known = protocols.filter((entry): entry is readonly [number, AppProtocol] => entry[1] !== undefined);
  return known.length === 0 ? service : { ...service, appProtocols: firstOfEach(known) };
}

export function firstOfEach<V>(entries: readonly (readonly [number, V])[]): ReadonlyMap<number, V> {
  const map = new Map<number, V>();
  for (const [key, value] of entries) if (!map.has(key)) map.set(key, value);
  return map;
}

/** 0: a name, which each endpoint resolves. */
function numericTarget(port: KubeServicePort): number {
  if (typeof port.targetPort === "string") return 0;
  return port.targetPort || port.port;
}

function ipFamiliesOf(families: readonly string[]): Service["ipFamilies"] {
  if (families.length > 1) return "Dual";
  const [only] = families;
  return only === "IPv4" || only === "IPv6" ? only : undefined;
}

/** From the field, else from the port's name (`http-web`). */
function portProtocol(port: KubeServicePort): AppProtocol | undefined {
  return appProtocol(port.appProtocol ?? port.name?.split("-")[0] ?? "");
}
