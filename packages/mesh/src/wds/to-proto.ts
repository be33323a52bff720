import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Cidr, ipToBytes } from "@tulle/base";
import { security, wds } from "@tulle/api";
import { DEFAULT_TRUST_DOMAIN } from "../defaults.ts";
import type { GatewayAddress, Policy, PolicyMatch, Service, StringMatch, Workload } from "../model.ts";
import * as enums from "./enums.ts";

/**
 * Model → message, with every map in the order of its keys, so that equal resources are equal bytes. The mesh's default
 * trust domain is sent as "" (control-plane.md §2.2).
 */
export function workloadToProto(from: Workload): wds.Workload {
  const services: Record<string, wds.PortList> = {};
  for (const [key, ports] of [...from.services].sort(byKey)) {
    services[key] = create(wds.PortListSchema, { ports: portsToProto(ports) });
  }
  const { region, zone, subzone } = from.locality;
  return create(wds.WorkloadSchema, {
    uid: from.uid,
    name: from.name,
    namespace: from.namespace,
    trustDomain: from.trustDomain === DEFAULT_TRUST_DOMAIN ? "" : from.trustDomain,
    serviceAccount: from.serviceAccount,
    addresses: from.addresses.map(toBytes),
    hostname: from.hostname,
    network: from.network,
    tunnelProtocol: enums.numberOf(enums.tunnelProtocols, from.protocol),
    networkMode: enums.numberOf(enums.networkModes, from.hostNetwork ? "host" : "standard"),
    nativeTunnel: from.nativeTunnel,
    node: from.node,
    ...(from.waypoint && { waypoint: gatewayToProto(from.waypoint) }),
    ...(from.networkGateway && { networkGateway: gatewayToProto(from.networkGateway) }),
    ...(from.applicationTunnel && {
      applicationTunnel: {
        protocol: enums.numberOf(enums.applicationTunnels, from.applicationTunnel.protocol),
        port: from.applicationTunnel.port ?? 0,
      },
    }),
    services,
    authorizationPolicies: [...from.authorizationPolicies],
    status: enums.numberOf(enums.statuses, from.healthy),
    ...(from.capacity === 1 ? {} : { capacity: from.capacity }),
    clusterId: from.clusterId,
    ...(region === "" && zone === "" && subzone === "" ? {} : { locality: { region, zone, subzone } }),
    workloadName: from.workloadName,
    workloadType: enums.numberOf(enums.workloadTypes, from.workloadType),
    canonicalName: from.canonicalName,
    canonicalRevision: from.canonicalRevision,
  });
}

export function serviceToProto(from: Service): wds.Service {
  const { loadBalancer } = from;
  return create(wds.ServiceSchema, {
    name: from.name,
    namespace: from.namespace,
    hostname: from.hostname,
    addresses: [
      ...from.vips.map(({ network, ip }) => ({ network, address: toBytes(ip) })),
      ...from.cidrVips.map(({ network, cidr }) => ({ network, address: cidr.bytes, length: cidr.bits })),
    ],
    ports: portsToProto(from.ports, from.appProtocols),
    subjectAltNames: [...from.subjectAltNames],
    ...(from.waypoint && { waypoint: gatewayToProto(from.waypoint) }),
    weightedWaypoints: from.weightedWaypoints.map((item) => ({
      destination: gatewayToProto(item.destination),
      weight: item.weight,
    })),
    ...(loadBalancer && {
      loadBalancing: {
        routingPreference: loadBalancer.routingPreferences.map((scope) => enums.numberOf(enums.scopes, scope)),
        mode: enums.numberOf(enums.modes, loadBalancer.mode),
        healthPolicy: enums.numberOf(enums.healthPolicies, loadBalancer.healthPolicy),
      },
    }),
    ipFamilies: enums.numberOf(enums.ipFamilies, from.ipFamilies ?? "automatic"),
    canonical: from.canonical,
    ingressUseWaypoint: from.ingressUseWaypoint ?? false,
    visibility: enums.numberOf(enums.visibilities, from.visibility),
  });
}

export function policyToProto(from: Policy): security.Authorization {
  return create(security.AuthorizationSchema, {
    name: from.name,
    namespace: from.namespace,
    scope: enums.numberOf(enums.policyScopes, from.scope),
    action: enums.numberOf(enums.policyActions, from.action),
    dryRun: from.dryRun,
    rules: from.rules.map((clauses) => ({
      clauses: clauses.map((matches) => ({ matches: matches.map(matchToProto) })),
    })),
  });
}

function portsToProto(
  ports: ReadonlyMap<number, number>,
  protocols?: Service["appProtocols"],
): MessageInitShape<typeof wds.PortSchema>[] {
  return [...ports].sort(byKey).map(([servicePort, port]) => {
    const protocol = protocols?.get(servicePort);
    return {
      servicePort,
      targetPort: port,
      appProtocol: protocol === undefined ? wds.AppProtocol.UNKNOWN : enums.numberOf(enums.appProtocols, protocol),
    };
  });
}

function gatewayToProto(from: GatewayAddress): MessageInitShape<typeof wds.GatewayAddressSchema> {
  const { destination, hboneMtlsPort } = from;
  if (destination.kind === "hostname") {
    const { namespace, hostname } = destination;
    return { destination: { case: "hostname", value: { namespace, hostname } }, hboneMtlsPort };
  }
  const { network, ip } = destination;
  return { destination: { case: "address", value: { network, address: toBytes(ip) } }, hboneMtlsPort };
}

function matchToProto(from: PolicyMatch): MessageInitShape<typeof security.MatchSchema> {
  return {
    namespaces: from.namespaces.map(stringToProto),
    notNamespaces: from.notNamespaces.map(stringToProto),
    principals: from.principals.map(stringToProto),
    notPrincipals: from.notPrincipals.map(stringToProto),
    sourceIps: from.sourceIps.map(cidrToProto),
    notSourceIps: from.notSourceIps.map(cidrToProto),
    destinationIps: from.destinationIps.map(cidrToProto),
    notDestinationIps: from.notDestinationIps.map(cidrToProto),
    destinationPorts: [...from.destinationPorts],
    notDestinationPorts: [...from.notDestinationPorts],
    serviceAccounts: [...from.serviceAccounts],
    notServiceAccounts: [...from.notServiceAccounts],
  };
}

function stringToProto(from: StringMatch): MessageInitShape<typeof security.StringMatchSchema> {
  if (from.kind === "presence") return { matchType: { case: "presence", value: {} } };
  return { matchType: { case: from.kind, value: from.value } };
}

function cidrToProto(from: Cidr): MessageInitShape<typeof security.AddressSchema> {
  return { address: from.bytes, length: from.bits };
}

function toBytes(ip: string): Uint8Array {
  const bytes = ipToBytes(ip);
  if (bytes === undefined) throw new Error(`"${ip}" is no address`);
  return bytes;
}

function byKey<K extends string | number>(a: readonly [K, unknown], b: readonly [K, unknown]): number {
  return a[0] < b[0] ? -1 : 1;
}
