import type { LoadBalancer, RoutingScope } from "../model.ts";
import { annotationOf, type KubeNamespace, type KubeService, type ObjectMeta } from "./kubernetes.ts";

const TRAFFIC_DISTRIBUTION = "networking.istio.io/traffic-distribution";
const CLOSE: readonly RoutingScope[] = ["Network", "Region", "Zone"];
const SAME_NODE: readonly RoutingScope[] = ["Network", "Region", "Zone", "Subzone", "Node"];

/** Precedence of control-plane.md §2.4. undefined: any endpoint that is healthy. */
export function serviceLoadBalancer(
  service: KubeService,
  namespace: KubeNamespace | undefined,
): LoadBalancer | undefined {
  const preset = servicePreset(service, namespace);
  if (service.spec?.publishNotReadyAddresses !== true) return preset;
  return { ...(preset ?? { routingPreferences: [], mode: "Standard" }), healthPolicy: "AllowAll" };
}

/** Resolution NONE: connections go where the application wanted. */
export function entryLoadBalancer(
  entry: { readonly metadata?: ObjectMeta | undefined },
  namespace: KubeNamespace | undefined,
  resolution: string,
): LoadBalancer | undefined {
  if (resolution === "NONE") return { routingPreferences: [], mode: "Passthrough", healthPolicy: "AllowAll" };
  return annotatedPreset(entry, namespace);
}

function servicePreset(service: KubeService, namespace: KubeNamespace | undefined): LoadBalancer | undefined {
  const { internalTrafficPolicy, trafficDistribution } = service.spec ?? {};
  if (internalTrafficPolicy === "Local") {
    return { routingPreferences: ["Node"], mode: "Strict", healthPolicy: "OnlyHealthy" };
  }
  const own = trafficDistribution === undefined ? undefined : distribution(trafficDistribution);
  return own ?? annotatedPreset(service, namespace);
}

/** A value that is not known means any endpoint, and ends the search. */
function annotatedPreset(
  object: { readonly metadata?: ObjectMeta | undefined },
  namespace: KubeNamespace | undefined,
): LoadBalancer | undefined {
  const annotation =
    annotationOf(object, TRAFFIC_DISTRIBUTION) ?? (namespace && annotationOf(namespace, TRAFFIC_DISTRIBUTION));
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
