import type { Cidr, Identity } from "@tulle/base";

/** The mesh as a proxy knows it (spec: WDS, istio.workload and istio.security). Plain data; nothing here does anything. */

export type TunnelProtocol = "HBONE" | "TCP";
export type WorkloadType = "deployment" | "cronjob" | "pod" | "job";

/** `<namespace>/<hostname>` of a service. */
export type ServiceKey = string;
/** `<namespace>/<name>` of a policy. */
export type PolicyKey = string;

/** Where a waypoint or a gateway is found. */
export type GatewayDestination =
  | { readonly kind: "address"; readonly network: string; readonly ip: string }
  | { readonly kind: "hostname"; readonly namespace: string; readonly hostname: string };

export interface GatewayAddress {
  readonly destination: GatewayDestination;
  readonly hboneMtlsPort: number;
}

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

export interface ApplicationTunnel {
  readonly protocol: "PROXY" | "NONE";
  readonly port: number | undefined;
}

export interface Workload {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly trustDomain: string;
  readonly serviceAccount: string;
  /** Canonical addresses; empty for workloads that are found by hostname or through a gateway. */
  readonly addresses: readonly string[];
  readonly hostname: string;
  readonly network: string;
  readonly protocol: TunnelProtocol;
  readonly hostNetwork: boolean;
  readonly nativeTunnel: boolean;
  readonly node: string;
  readonly waypoint: GatewayAddress | undefined;
  readonly networkGateway: GatewayAddress | undefined;
  readonly applicationTunnel: ApplicationTunnel | undefined;
  /** Service key → service port → the port that this workload listens on. */
  readonly services: ReadonlyMap<ServiceKey, ReadonlyMap<number, number>>;
  readonly authorizationPolicies: readonly PolicyKey[];
  readonly healthy: boolean;
  /** Load-balancing weight; 0 is never picked. */
  readonly capacity: number;
  readonly clusterId: string;
  readonly locality: Locality;
  readonly workloadName: string;
  readonly workloadType: WorkloadType;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
}

export interface Vip {
  readonly network: string;
  readonly ip: string;
}

export interface CidrVip {
  readonly network: string;
  readonly cidr: Cidr;
}

export type LoadBalancerMode = "Standard" | "Strict" | "Failover" | "Passthrough";
export type RoutingScope = "Network" | "Region" | "Zone" | "Subzone" | "Node" | "Cluster";

export interface LoadBalancer {
  readonly routingPreferences: readonly RoutingScope[];
  readonly mode: LoadBalancerMode;
  readonly healthPolicy: "OnlyHealthy" | "AllowAll";
}

export type AppProtocol = "HTTP11" | "HTTP2" | "GRPC" | "TCP" | "TLS";

export interface WeightedWaypoint {
  readonly destination: GatewayAddress;
  readonly weight: number;
}

export interface Service {
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  readonly vips: readonly Vip[];
  readonly cidrVips: readonly CidrVip[];
  /** Service port → target port; 0: a named port, which the endpoint must map. */
  readonly ports: ReadonlyMap<number, number>;
  /** SPIFFE URIs that endpoints may present besides their own identity. */
  readonly subjectAltNames: readonly string[];
  readonly waypoint: GatewayAddress | undefined;
  readonly weightedWaypoints: readonly WeightedWaypoint[];
  readonly loadBalancer: LoadBalancer | undefined;
  /** undefined: automatic. */
  readonly ipFamilies: "IPv4" | "IPv6" | "Dual" | undefined;
  readonly canonical: boolean;
  readonly visibility: "Public" | "Namespace";
  /** Service port → what is spoken there; a port without an entry: unknown. L4 does not look at it. */
  readonly appProtocols?: ReadonlyMap<number, AppProtocol>;
  /** Ingress gateways send to the waypoint, too. Absent: false. */
  readonly ingressUseWaypoint?: boolean;
}

export type StringMatch =
  | { readonly kind: "exact" | "prefix" | "suffix"; readonly value: string }
  | { readonly kind: "presence" };

export interface ServiceAccountMatch {
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** All fields must hold (AND); within a field one value is enough (OR); `not…` must not hold. Empty lists do not count. */
export interface PolicyMatch {
  readonly namespaces: readonly StringMatch[];
  readonly notNamespaces: readonly StringMatch[];
  readonly principals: readonly StringMatch[];
  readonly notPrincipals: readonly StringMatch[];
  readonly serviceAccounts: readonly ServiceAccountMatch[];
  readonly notServiceAccounts: readonly ServiceAccountMatch[];
  readonly sourceIps: readonly Cidr[];
  readonly notSourceIps: readonly Cidr[];
  readonly destinationIps: readonly Cidr[];
  readonly notDestinationIps: readonly Cidr[];
  readonly destinationPorts: readonly number[];
  readonly notDestinationPorts: readonly number[];
}

export interface Policy {
  readonly name: string;
  readonly namespace: string;
  readonly scope: "Global" | "Namespace" | "WorkloadSelector";
  readonly action: "Allow" | "Deny";
  readonly dryRun: boolean;
  /** Rules (OR) → clauses (AND) → matches (OR). */
  readonly rules: readonly (readonly (readonly PolicyMatch[])[])[];
}

/** One small change of the model; the log of changes is the same on every thread. */
export type MeshChange =
  | { readonly kind: "workload"; readonly workload: Workload }
  | { readonly kind: "service"; readonly service: Service }
  | { readonly kind: "policy"; readonly policy: Policy }
  | { readonly kind: "remove-workload"; readonly uid: string }
  | { readonly kind: "remove-service"; readonly key: ServiceKey }
  | { readonly kind: "remove-policy"; readonly key: PolicyKey }
  /** Every wildcard type has been received once: from here on "absent" is an answer. */
  | { readonly kind: "synced" };

export function workloadIdentity(workload: Workload): Identity {
  return {
    trustDomain: workload.trustDomain,
    namespace: workload.namespace,
    serviceAccount: workload.serviceAccount,
  };
}

export function serviceKey(service: Pick<Service, "namespace" | "hostname">): ServiceKey {
  return `${service.namespace}/${service.hostname}`;
}

export function policyKey(policy: Pick<Policy, "namespace" | "name">): PolicyKey {
  return `${policy.namespace}/${policy.name}`;
}
