import { type Cidr, cidrOf, parseIdentity } from "@tulle/base";
import type { security, wds } from "@tulle/api";
import { DEFAULT_CLUSTER_ID, DEFAULT_SERVICE_ACCOUNT, DEFAULT_TRUST_DOMAIN } from "../defaults.ts";
import type {
  ApplicationTunnel,
  AppProtocol,
  CidrVip,
  LoadBalancer,
  Policy,
  PolicyMatch,
  Service,
  ServiceAccountMatch,
  StringMatch,
  Vip,
  Workload,
} from "../model.ts";
import * as enums from "./enums.ts";
import { fromEnum, readGateway, readIp, readPort, readRange, rejected } from "./reader.ts";

/** Throws RESOURCE_REJECTED with the reason of the NACK (§5.3). */
export function workloadFromProto(from: wds.Workload): Workload {
  return {
    uid: from.uid,
    name: from.name,
    namespace: from.namespace,
    trustDomain: from.trustDomain || DEFAULT_TRUST_DOMAIN,
    serviceAccount: from.serviceAccount || DEFAULT_SERVICE_ACCOUNT,
    addresses: from.addresses.map((bytes) => readIp(bytes, "address")),
    hostname: from.hostname,
    network: from.network,
    protocol: fromEnum(enums.tunnelProtocols, from.tunnelProtocol, "tunnel protocol"),
    hostNetwork: fromEnum(enums.networkModes, from.networkMode, "network mode") === "host",
    nativeTunnel: from.nativeTunnel,
    node: from.node,
    waypoint: from.waypoint && readGateway(from.waypoint, "waypoint"),
    networkGateway: from.networkGateway && readGateway(from.networkGateway, "network gateway"),
    applicationTunnel: from.applicationTunnel && readTunnel(from.applicationTunnel),
    services: new Map(
      Object.entries(from.services).map(([key, ports]) => [readServiceKey(key), readPorts(ports.ports)]),
    ),
    authorizationPolicies: [...from.authorizationPolicies],
    healthy: fromEnum(enums.statuses, from.status, "workload status"),
    capacity: from.capacity ?? 1,
    clusterId: from.clusterId || DEFAULT_CLUSTER_ID,
    locality: {
      region: from.locality?.region ?? "",
      zone: from.locality?.zone ?? "",
      subzone: from.locality?.subzone ?? "",
    },
    workloadName: from.workloadName,
    workloadType: enums.workloadTypes.get(from.workloadType) ?? "deployment",
    canonicalName: from.canonicalName,
    canonicalRevision: from.canonicalRevision,
  };
}

/** Throws RESOURCE_REJECTED with the reason of the NACK (§5.3). */
export function serviceFromProto(from: wds.Service): Service {
  const families = fromEnum(enums.ipFamilies, from.ipFamilies, "ip families");
  const { vips, cidrVips } = readVips(from.addresses);
  const service: Service = {
    name: from.name,
    namespace: from.namespace,
    hostname: from.hostname,
    vips,
    cidrVips,
    ports: readPorts(from.ports),
    subjectAltNames: [...from.subjectAltNames],
    waypoint: from.waypoint && readGateway(from.waypoint, "waypoint"),
    weightedWaypoints: from.weightedWaypoints.map((item) => {
      if (item.destination === undefined) throw rejected("weighted waypoint without a destination");
      return { destination: readGateway(item.destination, "weighted waypoint"), weight: item.weight };
    }),
    loadBalancer: from.loadBalancing && readLoadBalancer(from.loadBalancing),
    ipFamilies: families === "automatic" ? undefined : families,
    canonical: from.canonical,
    visibility: enums.visibilities.get(from.visibility) ?? "Public",
  };
  const appProtocols = readAppProtocols(from.ports);
  return {
    ...service,
    ...(appProtocols.size === 0 ? {} : { appProtocols }),
    ...(from.ingressUseWaypoint ? { ingressUseWaypoint: true } : {}),
  };
}

/**
 * Throws RESOURCE_REJECTED. A value that cannot be read rejects the whole policy: dropped from its list, as a lenient
 * reader would, it could leave an ALLOW without its condition.
 */
export function policyFromProto(from: security.Authorization): Policy {
  return {
    name: from.name,
    namespace: from.namespace,
    scope: fromEnum(enums.policyScopes, from.scope, "scope"),
    action: fromEnum(enums.policyActions, from.action, "action"),
    dryRun: from.dryRun,
    rules: from.rules.map((rule) => rule.clauses.map((clause) => clause.matches.map(readMatch))),
  };
}

function readTunnel(from: wds.ApplicationTunnel): ApplicationTunnel {
  const protocol = fromEnum(enums.applicationTunnels, from.protocol, "application tunnel protocol");
  return { protocol, port: from.port === 0 ? undefined : readPort(from.port, "application tunnel port") };
}

function readServiceKey(key: string): string {
  if (!key.includes("/")) throw rejected(`service key "${key}" is not <namespace>/<hostname>`);
  return key;
}

function readPorts(from: readonly wds.Port[]): ReadonlyMap<number, number> {
  return new Map(
    from.map((port) => [readPort(port.servicePort, "service port"), readPort(port.targetPort, "target port")]),
  );
}

function readAppProtocols(from: readonly wds.Port[]): ReadonlyMap<number, AppProtocol> {
  const protocols = new Map<number, AppProtocol>();
  for (const port of from) {
    const protocol = enums.appProtocols.get(port.appProtocol);
    if (protocol !== undefined) protocols.set(port.servicePort, protocol);
  }
  return protocols;
}

/** A range that holds one address is a plain VIP. */
function readVips(from: readonly wds.NetworkAddress[]): { vips: readonly Vip[]; cidrVips: readonly CidrVip[] } {
  const vips: Vip[] = [];
  const cidrVips: CidrVip[] = [];
  for (const { network, address, length } of from) {
    const ip = readIp(address, "service address");
    const range = length === undefined ? undefined : readRange(address, length, "service address");
    if (range === undefined || range.bits === range.bytes.length * 8) vips.push({ network, ip });
    else cidrVips.push({ network, cidr: toCidr(range) });
  }
  return { vips, cidrVips };
}

function readLoadBalancer(from: wds.LoadBalancing): LoadBalancer {
  return {
    routingPreferences: from.routingPreference.map((scope) => fromEnum(enums.scopes, scope, "routing scope")),
    mode: fromEnum(enums.modes, from.mode, "load balancing mode"),
    healthPolicy: fromEnum(enums.healthPolicies, from.healthPolicy, "health policy"),
  };
}

function readMatch(from: security.Match): PolicyMatch {
  return {
    namespaces: from.namespaces.map(readString),
    notNamespaces: from.notNamespaces.map(readString),
    principals: from.principals.map(readString),
    notPrincipals: from.notPrincipals.map(readString),
    serviceAccounts: from.serviceAccounts.map(readAccount),
    notServiceAccounts: from.notServiceAccounts.map(readAccount),
    sourceIps: from.sourceIps.map(readCidr),
    notSourceIps: from.notSourceIps.map(readCidr),
    destinationIps: from.destinationIps.map(readCidr),
    notDestinationIps: from.notDestinationIps.map(readCidr),
    destinationPorts: from.destinationPorts.map((port) => readPort(port, "destination port")),
    notDestinationPorts: from.notDestinationPorts.map((port) => readPort(port, "destination port")),
  };
}

function readAccount({ namespace, serviceAccount }: security.ServiceAccountMatch): ServiceAccountMatch {
  return { namespace, serviceAccount };
}

function readString(from: security.StringMatch): StringMatch {
  const { matchType } = from;
  switch (matchType.case) {
    case "exact":
    case "prefix":
    case "suffix":
      return { kind: matchType.case, value: matchType.value };
    case "presence":
      return { kind: "presence" };
    default:
      throw rejected("string match without a value");
  }
}

function readCidr(from: security.Address): Cidr {
  return toCidr(readRange(from.address, from.length, "address range"));
}

function toCidr(range: { readonly bytes: Uint8Array; readonly bits: number }): Cidr {
  const cidr = cidrOf(range.bytes, range.bits);
  if (cidr === undefined) throw rejected("address range with no valid prefix length");
  return cidr;
}

/** SANs that no certificate of the mesh can carry, for a warning in the log. */
export function unreadableSans(service: Service): readonly string[] {
  return service.subjectAltNames.filter((name) => parseIdentity(name) === undefined);
}
