import { canonicalIp } from "@tulle/base";
import { newService } from "../defaults.ts";
import type { AppProtocol, LoadBalancer, RoutingScope, Service } from "../model.ts";
import { type MeshSettings, waypointFor, type WaypointReference } from "./context.ts";
import {
  annotationOf,
  type KubeNamespace,
  type KubeService,
  type KubeServicePort,
  nameOf,
  namespaceOf,
} from "./kubernetes.ts";

const TRAFFIC_DISTRIBUTION = "networking.istio.io/traffic-distribution";
const CLOSE: readonly RoutingScope[] = ["Network", "Region", "Zone"];
const SAME_NODE: readonly RoutingScope[] = ["Network", "Region", "Zone", "Subzone", "Node"];

/** `undefined`: not a service of the mesh (ExternalName). `namespace`: for what is inherited from it. */
export function convertService(
  from: KubeService,
  namespace: KubeNamespace | undefined,
  settings: MeshSettings,
): { readonly service: Service; readonly waypoint: WaypointReference | undefined } | undefined {
  if (from.spec?.type === "ExternalName") return undefined;
  const ports = tcpFirst(from.spec?.ports ?? []);
  const waypoint = waypointFor(from, namespace, true, settings);
  const appProtocols = new Map<number, AppProtocol>();
  for (const port of ports) {
    const protocol = appProtocolOf(port);
    if (protocol !== undefined && !appProtocols.has(port.port)) appProtocols.set(port.port, protocol);
  }
  const ipFamilies = ipFamiliesOf(from.spec?.ipFamilies ?? []);
  const service = newService({
    name: nameOf(from),
    namespace: namespaceOf(from),
    hostname: serviceHostname(from, settings.clusterDomain),
    vips: clusterIps(from).map((ip) => ({ network: settings.network, ip })),
    ports: new Map(ports.toReversed().map((port) => [port.port, numericTarget(port)])),
    waypoint: waypoint?.address,
    loadBalancer: loadBalancerOf(from, namespace),
    ipFamilies,
    canonical: true,
  });
  const sorted: Service = { ...service, ports: new Map([...service.ports].sort((a, b) => a[0] - b[0])) };
  return { service: appProtocols.size === 0 ? sorted : { ...sorted, appProtocols }, waypoint };
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

function clusterIps(service: KubeService): readonly string[] {
  const { clusterIP, clusterIPs } = service.spec ?? {};
  const listed = clusterIPs !== undefined && clusterIPs.length > 0 ? clusterIPs : [clusterIP ?? ""];
  return listed.map(canonicalIp).filter((ip) => ip !== undefined);
}

/** 0: a name, which each endpoint resolves. */
function numericTarget(port: KubeServicePort): number {
  if (typeof port.targetPort === "string") return 0;
  return port.targetPort ?? port.port;
}

function ipFamiliesOf(families: readonly string[]): Service["ipFamilies"] {
  if (families.length > 1) return "Dual";
  const [only] = families;
  return only === "IPv4" || only === "IPv6" ? only : undefined;
}

/** From the field, else from the port's name (`http-web`). */
function appProtocolOf(port: KubeServicePort): AppProtocol | undefined {
  const word = (port.appProtocol ?? port.name?.split("-")[0] ?? "").toLowerCase();
  switch (word) {
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

/** Precedence of control-plane.md §2.4. */
function loadBalancerOf(service: KubeService, namespace: KubeNamespace | undefined): LoadBalancer | undefined {
  const preset = presetOf(service, namespace);
  if (service.spec?.publishNotReadyAddresses !== true) return preset;
  return { ...(preset ?? { routingPreferences: [], mode: "Standard" }), healthPolicy: "AllowAll" };
}

function presetOf(service: KubeService, namespace: KubeNamespace | undefined): LoadBalancer | undefined {
  const { internalTrafficPolicy, trafficDistribution } = service.spec ?? {};
  if (internalTrafficPolicy === "Local") {
    return { routingPreferences: ["Node"], mode: "Strict", healthPolicy: "OnlyHealthy" };
  }
  const own = trafficDistribution === undefined ? undefined : distribution(trafficDistribution);
  if (own !== undefined) return own;
  const annotation =
    annotationOf(service, TRAFFIC_DISTRIBUTION) ?? (namespace && annotationOf(namespace, TRAFFIC_DISTRIBUTION));
  return annotation === undefined ? undefined : distribution(annotation);
}

function distribution(word: string): LoadBalancer | undefined {
  switch (word.toLowerCase()) {
    case "preferclose":
    case "prefersamezone":
      return { routingPreferences: CLOSE, mode: "Failover", healthPolicy: "OnlyHealthy" };
    case "prefersamenode":
      return { routingPreferences: SAME_NODE, mode: "Failover", healthPolicy: "OnlyHealthy" };
    default:
      return undefined;
  }
}
