import type { Policy, PolicyMatch, Service, Workload } from "./model.ts";

/** What makes a workload; everything else has the protocol's default. */
export type WorkloadFields = Pick<Workload, "uid" | "name" | "namespace"> & Partial<Workload>;
export type ServiceFields = Pick<Service, "name" | "namespace" | "hostname"> & Partial<Service>;
export type PolicyFields = Pick<Policy, "name" | "namespace" | "action" | "rules"> & Partial<Policy>;

export const DEFAULT_TRUST_DOMAIN = "cluster.local";
export const DEFAULT_SERVICE_ACCOUNT = "default";
export const DEFAULT_CLUSTER_ID = "Kubernetes";

/** A match without any condition: it never matches (spec: l4-ztunnel §4.3). */
export const EMPTY_MATCH: PolicyMatch = {
  namespaces: [],
  notNamespaces: [],
  principals: [],
  notPrincipals: [],
  serviceAccounts: [],
  notServiceAccounts: [],
  sourceIps: [],
  notSourceIps: [],
  destinationIps: [],
  notDestinationIps: [],
  destinationPorts: [],
  notDestinationPorts: [],
};

/** A workload with the defaults of istio.workload.Workload (§5.3): plaintext, healthy, capacity 1, no addresses. */
export function newWorkload(fields: WorkloadFields): Workload {
  return {
    trustDomain: DEFAULT_TRUST_DOMAIN,
    serviceAccount: DEFAULT_SERVICE_ACCOUNT,
    addresses: [],
    hostname: "",
    network: "",
    protocol: "TCP",
    hostNetwork: false,
    nativeTunnel: false,
    node: "",
    waypoint: undefined,
    networkGateway: undefined,
    applicationTunnel: undefined,
    services: new Map(),
    authorizationPolicies: [],
    healthy: true,
    capacity: 1,
    clusterId: DEFAULT_CLUSTER_ID,
    locality: { region: "", zone: "", subzone: "" },
    workloadName: "",
    workloadType: "deployment",
    canonicalName: "",
    canonicalRevision: "",
    ...fields,
  };
}

/** A public service without addresses, ports, waypoint or load-balancing preferences. */
export function newService(fields: ServiceFields): Service {
  return {
    vips: [],
    cidrVips: [],
    ports: new Map(),
    subjectAltNames: [],
    waypoint: undefined,
    weightedWaypoints: [],
    loadBalancer: undefined,
    ipFamilies: undefined,
    canonical: false,
    visibility: "Public",
    ...fields,
  };
}

/** A policy that is enforced (no dry run) and, unless told otherwise, scoped to its namespace. */
export function newPolicy(fields: PolicyFields): Policy {
  return { scope: "Namespace", dryRun: false, ...fields };
}

/** A match with these conditions only. */
export function newMatch(conditions: Partial<PolicyMatch>): PolicyMatch {
  return { ...EMPTY_MATCH, ...conditions };
}
