import { security, wds } from "@tulle/api";
import type {
  AppProtocol,
  ApplicationTunnel,
  LoadBalancer,
  LoadBalancerMode,
  Policy,
  RoutingScope,
  Service,
  TunnelProtocol,
  WorkloadType,
} from "../model.ts";

/** Wire numbers and the model's words. What is missing here is rejected (spec: l4-ztunnel §5.3). */
export const tunnelProtocols = new Map<wds.TunnelProtocol, TunnelProtocol>([
  [wds.TunnelProtocol.NONE, "TCP"],
  [wds.TunnelProtocol.HBONE, "HBONE"],
]);

export const workloadTypes = new Map<wds.WorkloadType, WorkloadType>([
  [wds.WorkloadType.DEPLOYMENT, "deployment"],
  [wds.WorkloadType.CRONJOB, "cronjob"],
  [wds.WorkloadType.POD, "pod"],
  [wds.WorkloadType.JOB, "job"],
]);

export const statuses = new Map<wds.WorkloadStatus, boolean>([
  [wds.WorkloadStatus.HEALTHY, true],
  [wds.WorkloadStatus.UNHEALTHY, false],
]);

export const networkModes = new Map<wds.NetworkMode, "standard" | "host">([
  [wds.NetworkMode.STANDARD, "standard"],
  [wds.NetworkMode.HOST_NETWORK, "host"],
]);

export const applicationTunnels = new Map<wds.ApplicationTunnel_Protocol, ApplicationTunnel["protocol"]>([
  [wds.ApplicationTunnel_Protocol.NONE, "NONE"],
  [wds.ApplicationTunnel_Protocol.PROXY, "PROXY"],
]);

export const modes = new Map<wds.LoadBalancing_Mode, LoadBalancerMode>([
  [wds.LoadBalancing_Mode.UNSPECIFIED_MODE, "Standard"],
  [wds.LoadBalancing_Mode.STRICT, "Strict"],
  [wds.LoadBalancing_Mode.FAILOVER, "Failover"],
  [wds.LoadBalancing_Mode.PASSTHROUGH, "Passthrough"],
]);

/** UNSPECIFIED_SCOPE is no scope. */
export const scopes = new Map<wds.LoadBalancing_Scope, RoutingScope>([
  [wds.LoadBalancing_Scope.REGION, "Region"],
  [wds.LoadBalancing_Scope.ZONE, "Zone"],
  [wds.LoadBalancing_Scope.SUBZONE, "Subzone"],
  [wds.LoadBalancing_Scope.NODE, "Node"],
  [wds.LoadBalancing_Scope.CLUSTER, "Cluster"],
  [wds.LoadBalancing_Scope.NETWORK, "Network"],
]);

export const healthPolicies = new Map<wds.LoadBalancing_HealthPolicy, LoadBalancer["healthPolicy"]>([
  [wds.LoadBalancing_HealthPolicy.ONLY_HEALTHY, "OnlyHealthy"],
  [wds.LoadBalancing_HealthPolicy.ALLOW_ALL, "AllowAll"],
]);

export const ipFamilies = new Map<wds.IPFamilies, NonNullable<Service["ipFamilies"]> | "automatic">([
  [wds.IPFamilies.AUTOMATIC, "automatic"],
  [wds.IPFamilies.IPV4_ONLY, "IPv4"],
  [wds.IPFamilies.IPV6_ONLY, "IPv6"],
  [wds.IPFamilies.DUAL, "Dual"],
]);

export const visibilities = new Map<wds.Visibility, Service["visibility"]>([
  [wds.Visibility.PUBLIC, "Public"],
  [wds.Visibility.NAMESPACE, "Namespace"],
]);

export const appProtocols = new Map<wds.AppProtocol, AppProtocol>([
  [wds.AppProtocol.HTTP11, "HTTP11"],
  [wds.AppProtocol.HTTP2, "HTTP2"],
  [wds.AppProtocol.GRPC, "GRPC"],
  [wds.AppProtocol.TCP, "TCP"],
  [wds.AppProtocol.TLS, "TLS"],
]);

export const policyScopes = new Map<security.Scope, Policy["scope"]>([
  [security.Scope.GLOBAL, "Global"],
  [security.Scope.NAMESPACE, "Namespace"],
  [security.Scope.WORKLOAD_SELECTOR, "WorkloadSelector"],
]);

export const policyActions = new Map<security.Action, Policy["action"]>([
  [security.Action.ALLOW, "Allow"],
  [security.Action.DENY, "Deny"],
]);

/** The number of a word. Every word of the model has one. */
export function numberOf<N extends number, T>(names: ReadonlyMap<N, T>, word: T): N {
  for (const [number, name] of names) if (name === word) return number;
  throw new Error(`no wire number for ${String(word)}`);
}
