import { formatCidr } from "@tulle/base";
import { formatGateway } from "./gateway.ts";
import type { GatewayAddress, Policy, PolicyMatch, Service, StringMatch, Workload } from "./model.ts";
import { policyKey, serviceKey } from "./model.ts";
import type { MeshState } from "./state.ts";

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

/** The part of `/config_dump` that is the mesh (spec: l4-ztunnel §9.1). Keys are sorted, as a real ztunnel sends them. */
export interface StateDump {
  readonly policies: readonly JsonObject[];
  readonly services: readonly JsonObject[];
  /** Endpoints of services that are not known: service key → uid → endpoint. */
  readonly stagedServices: JsonObject;
  readonly workloads: readonly JsonObject[];
}

/** Workloads by uid, services by hostname, policies by key. */
export function dumpState(state: MeshState): StateDump {
  const byUid = (a: Workload, b: Workload) => compare(a.uid, b.uid);
  const byHostname = (a: Service, b: Service) => compare(a.hostname, b.hostname) || compare(a.namespace, b.namespace);
  const staged = [...state.stagedServices()].sort(compare);
  return {
    policies: [...state.allPolicies()].sort((a, b) => compare(policyKey(a), policyKey(b))).map(dumpPolicy),
    services: [...state.allServices()].sort(byHostname).map((service) => {
      return dumpService(service, state.members(serviceKey(service)).values());
    }),
    stagedServices: Object.fromEntries(
      staged.map((key) => [key, Object.fromEntries([...state.members(key).values()].map((w) => dumpEndpoint(key, w)))]),
    ),
    workloads: [...state.allWorkloads()].sort(byUid).map((workload) => dumpWorkload(workload)),
  };
}

/** `services`: `keys` in the mesh part of the dump, `map` (with ports) in `staticConfig`, as in the local file. */
export function dumpWorkload(workload: Workload, services: "keys" | "map" = "keys"): JsonObject {
  const { applicationTunnel: tunnel, locality } = workload;
  const keys = [...workload.services.keys()].sort(compare);
  return prune({
    applicationTunnel: tunnel && { port: tunnel.port ?? null, protocol: tunnel.protocol },
    authorizationPolicies: nonEmpty(workload.authorizationPolicies),
    canonicalName: nonEmpty(workload.canonicalName),
    canonicalRevision: nonEmpty(workload.canonicalRevision),
    capacity: workload.capacity,
    clusterId: workload.clusterId,
    hostname: nonEmpty(workload.hostname),
    locality: locality.region + locality.zone + locality.subzone === "" ? undefined : { ...locality },
    name: workload.name,
    namespace: workload.namespace,
    nativeTunnel: workload.nativeTunnel || undefined,
    network: nonEmpty(workload.network),
    networkGateway: dumpGateway(workload.networkGateway),
    networkMode: workload.hostNetwork ? "HostNetwork" : "Standard",
    node: nonEmpty(workload.node),
    protocol: workload.protocol,
    serviceAccount: nonEmpty(workload.serviceAccount),
    services:
      services === "keys"
        ? nonEmpty(keys)
        : Object.fromEntries(keys.map((key) => [key, dumpPorts(workload.services.get(key))])),
    status: workload.healthy ? "Healthy" : "Unhealthy",
    trustDomain: nonEmpty(workload.trustDomain),
    uid: nonEmpty(workload.uid),
    waypoint: dumpGateway(workload.waypoint),
    workloadIps: workload.addresses,
    workloadName: nonEmpty(workload.workloadName),
    workloadType: workload.workloadType,
  });
}

/** `members`: the workloads that belong to the service; unhealthy ones are left out unless the service wants them. */
export function dumpService(service: Service, members: Iterable<Workload>): JsonObject {
  const { loadBalancer } = service;
  const key = serviceKey(service);
  const endpoints = [...members].filter((w) => w.healthy || loadBalancer?.healthPolicy === "AllowAll");
  return prune({
    canonical: service.canonical,
    cidrVips: nonEmpty(service.cidrVips.map(({ network, cidr }) => ({ cidr: formatCidr(cidr), network }))),
    endpoints: Object.fromEntries(endpoints.sort((a, b) => compare(a.uid, b.uid)).map((w) => dumpEndpoint(key, w))),
    hostname: service.hostname,
    ipFamilies: service.ipFamilies,
    loadBalancer: loadBalancer && {
      healthPolicy: loadBalancer.healthPolicy,
      mode: loadBalancer.mode,
      routingPreferences: loadBalancer.routingPreferences,
    },
    name: service.name,
    namespace: service.namespace,
    ports: dumpPorts(service.ports),
    subjectAltNames: service.subjectAltNames,
    vips: service.vips.map(({ network, ip }) => `${network}/${ip}`),
    visibility: service.visibility,
    waypoint: dumpGateway(service.waypoint),
    weightedWaypoints: nonEmpty(
      service.weightedWaypoints.map(({ destination, weight }) => ({
        destination: dumpGateway(destination) ?? {},
        weight,
      })),
    ),
  });
}

export function dumpPolicy(policy: Policy): JsonObject {
  return {
    action: policy.action,
    dryRun: policy.dryRun,
    name: policy.name,
    namespace: policy.namespace,
    rules: policy.rules.map((clauses) => clauses.map((matches) => matches.map(dumpMatch))),
    scope: policy.scope,
  };
}

function dumpMatch(match: PolicyMatch): JsonObject {
  const strings = (values: readonly StringMatch[]) => nonEmpty(values.map(dumpString));
  return prune({
    destinationIps: nonEmpty(match.destinationIps.map(formatCidr)),
    destinationPorts: nonEmpty(match.destinationPorts),
    namespaces: strings(match.namespaces),
    notDestinationIps: nonEmpty(match.notDestinationIps.map(formatCidr)),
    notDestinationPorts: nonEmpty(match.notDestinationPorts),
    notNamespaces: strings(match.notNamespaces),
    notPrincipals: strings(match.notPrincipals),
    notServiceAccounts: nonEmpty(match.notServiceAccounts.map((account) => ({ ...account }))),
    notSourceIps: nonEmpty(match.notSourceIps.map(formatCidr)),
    principals: strings(match.principals),
    serviceAccounts: nonEmpty(match.serviceAccounts.map((account) => ({ ...account }))),
    sourceIps: nonEmpty(match.sourceIps.map(formatCidr)),
  });
}

function dumpString(match: StringMatch): JsonObject {
  switch (match.kind) {
    case "exact":
      return { Exact: match.value };
    case "prefix":
      return { Prefix: match.value };
    case "suffix":
      return { Suffix: match.value };
    case "presence":
      return { Presence: [] };
    default:
      return match satisfies never;
  }
}

function dumpEndpoint(key: string, workload: Workload): [uid: string, endpoint: JsonObject] {
  const port = dumpPorts(workload.services.get(key));
  return [workload.uid, { port, status: workload.healthy ? "Healthy" : "Unhealthy", workloadUid: workload.uid }];
}

function dumpGateway(gateway: GatewayAddress | undefined): JsonObject | undefined {
  return gateway && { destination: formatGateway(gateway.destination), hboneMtlsPort: gateway.hboneMtlsPort };
}

function dumpPorts(ports: ReadonlyMap<number, number> | undefined): JsonObject {
  return Object.fromEntries([...(ports ?? [])].sort((a, b) => a[0] - b[0]).map(([port, target]) => [port, target]));
}

function nonEmpty<T extends { readonly length: number }>(value: T): T | undefined {
  return value.length === 0 ? undefined : value;
}

function prune(fields: Readonly<Record<string, Json | undefined>>): JsonObject {
  const kept: Record<string, Json> = {};
  for (const [key, value] of Object.entries(fields)) if (value !== undefined) kept[key] = value;
  return kept;
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
