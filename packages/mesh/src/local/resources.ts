import { canonicalIp, INBOUND_HBONE_PORT, parseCidr, parsePort } from "@tulle/base";
import { newService, newWorkload } from "../defaults.ts";
import type {
  ApplicationTunnel,
  CidrVip,
  GatewayAddress,
  LoadBalancer,
  Locality,
  Service,
  Vip,
  WeightedWaypoint,
  Workload,
} from "../model.ts";
import type { YamlCursor } from "./yaml-cursor.ts";

const MAX_PORT = 65535;
const MAX_CAPACITY = 0xffff_ffff;

const WORKLOAD_KEYS = [
  "workloadIps",
  "waypoint",
  "networkGateway",
  "protocol",
  "networkMode",
  "uid",
  "name",
  "namespace",
  "trustDomain",
  "serviceAccount",
  "network",
  "workloadName",
  "workloadType",
  "canonicalName",
  "canonicalRevision",
  "hostname",
  "node",
  "nativeTunnel",
  "applicationTunnel",
  "authorizationPolicies",
  "status",
  "clusterId",
  "locality",
  "services",
  "capacity",
] as const;

const SERVICE_KEYS = [
  "name",
  "namespace",
  "hostname",
  "vips",
  "cidrVips",
  "ports",
  "subjectAltNames",
  "waypoint",
  "weightedWaypoints",
  "loadBalancer",
  "ipFamilies",
  "canonical",
  "visibility",
] as const;

/** One item of `workloads` (spec: l4-ztunnel §5.8). */
export function readWorkload(at: YamlCursor): Workload {
  const fields = at.fields(WORKLOAD_KEYS, ["workloadIps", "namespace", "services"]);
  const get = <T>(key: (typeof WORKLOAD_KEYS)[number], read: (value: YamlCursor) => T): T | undefined => {
    const value = fields.get(key);
    return value === undefined || value.isNull ? undefined : read(value);
  };
  const text = (key: (typeof WORKLOAD_KEYS)[number]) => get(key, (value) => value.text()) ?? "";
  const plain = newWorkload({ uid: text("uid"), name: text("name"), namespace: text("namespace") });
  return {
    ...plain,
    trustDomain: text("trustDomain") || plain.trustDomain,
    serviceAccount: text("serviceAccount") || plain.serviceAccount,
    addresses: get("workloadIps", (value) => value.list(readIp)) ?? [],
    hostname: text("hostname"),
    network: text("network"),
    protocol: get("protocol", (value) => value.choice(["HBONE", "TCP"])) ?? plain.protocol,
    hostNetwork: get("networkMode", (value) => value.choice(["Standard", "HostNetwork"])) === "HostNetwork",
    nativeTunnel: get("nativeTunnel", (value) => value.flag()) ?? false,
    node: text("node"),
    waypoint: get("waypoint", readGateway),
    networkGateway: get("networkGateway", readGateway),
    applicationTunnel: get("applicationTunnel", readTunnel),
    services: new Map(get("services", readMembership)),
    authorizationPolicies: get("authorizationPolicies", (value) => value.list(readKey)) ?? [],
    healthy: get("status", (value) => value.choice(["Healthy", "Unhealthy"])) !== "Unhealthy",
    capacity: get("capacity", (value) => value.number(MAX_CAPACITY)) ?? plain.capacity,
    clusterId: text("clusterId") || plain.clusterId,
    locality: get("locality", readLocality) ?? plain.locality,
    workloadName: text("workloadName"),
    workloadType:
      get("workloadType", (value) => value.choice(["deployment", "cronjob", "pod", "job"])) ?? plain.workloadType,
    canonicalName: text("canonicalName"),
    canonicalRevision: text("canonicalRevision"),
  };
}

/** One item of `services`. Its endpoints are the workloads that list it under their `services`. */
export function readService(at: YamlCursor): Service {
  const fields = at.fields(SERVICE_KEYS, ["name", "namespace", "hostname", "vips", "ports"]);
  const get = <T>(key: (typeof SERVICE_KEYS)[number], read: (value: YamlCursor) => T): T | undefined => {
    const value = fields.get(key);
    return value === undefined || value.isNull ? undefined : read(value);
  };
  const text = (key: (typeof SERVICE_KEYS)[number]) => get(key, (value) => value.text()) ?? "";
  return {
    ...newService({ name: text("name"), namespace: text("namespace"), hostname: text("hostname") }),
    vips: get("vips", (value) => value.list(readVip)) ?? [],
    cidrVips: get("cidrVips", (value) => value.list(readCidrVip)) ?? [],
    ports: get("ports", readPorts) ?? new Map(),
    subjectAltNames: get("subjectAltNames", (value) => value.list((name) => name.text())) ?? [],
    waypoint: get("waypoint", readGateway),
    weightedWaypoints: get("weightedWaypoints", (value) => value.list(readWeighted)) ?? [],
    loadBalancer: get("loadBalancer", readLoadBalancer),
    ipFamilies: get("ipFamilies", (value) => value.choice(["IPv4", "IPv6", "Dual"])),
    canonical: get("canonical", (value) => value.flag()) ?? false,
    visibility: get("visibility", (value) => value.choice(["Public", "Namespace"])) ?? "Public",
  };
}

/** `ns/name`. */
export function readKey(at: YamlCursor): string {
  const key = at.text();
  return key.includes("/") ? key : at.fail(`expected <namespace>/<name>, found "${key}"`);
}

export function readIp(at: YamlCursor): string {
  const text = at.text();
  return canonicalIp(text) ?? at.fail(`"${text}" is no address`);
}

export function readPort(at: YamlCursor): number {
  return at.number(MAX_PORT);
}

/** `network/ip`, or `namespace/hostname`. */
function readGateway(at: YamlCursor): GatewayAddress {
  const fields = at.fields(["destination", "hboneMtlsPort"], ["destination"]);
  const destination = fields.get("destination") ?? at;
  const text = readKey(destination);
  const slash = text.indexOf("/");
  const [scope, name] = [text.slice(0, slash), text.slice(slash + 1)];
  const ip = canonicalIp(name);
  if (ip === undefined && (scope === "" || name === ""))
    destination.fail(`"${text}" is no network/ip or namespace/hostname`);
  const port = fields.get("hboneMtlsPort");
  return {
    destination:
      ip === undefined
        ? { kind: "hostname", namespace: scope, hostname: name }
        : { kind: "address", network: scope, ip },
    hboneMtlsPort: port === undefined ? INBOUND_HBONE_PORT : readPort(port),
  };
}

function readTunnel(at: YamlCursor): ApplicationTunnel {
  const fields = at.fields(["protocol", "port"], ["protocol"]);
  const port = fields.get("port");
  return {
    protocol: (fields.get("protocol") ?? at).choice(["PROXY", "NONE"]),
    port: port === undefined || port.isNull ? undefined : readPort(port),
  };
}

function readMembership(at: YamlCursor): (readonly [string, ReadonlyMap<number, number>])[] {
  return at.entries().map(([key, ports]) => {
    if (!key.includes("/")) ports.fail(`expected <namespace>/<hostname>, found "${key}"`);
    return [key, readPorts(ports)] as const;
  });
}

function readPorts(at: YamlCursor): ReadonlyMap<number, number> {
  return new Map(
    at.entries().map(([key, target]) => {
      const port = parsePort(key) ?? target.fail(`"${key}" is no port`);
      return [port, readPort(target)] as const;
    }),
  );
}

function readLocality(at: YamlCursor): Locality {
  const fields = at.fields(["region", "zone", "subzone"]);
  const text = (key: string) => fields.get(key)?.text() ?? "";
  return { region: text("region"), zone: text("zone"), subzone: text("subzone") };
}

/** `network/ip`; `/ip` in the default network. */
function readVip(at: YamlCursor): Vip {
  const text = readKey(at);
  const slash = text.indexOf("/");
  const ip = canonicalIp(text.slice(slash + 1)) ?? at.fail(`expected <network>/<ip>, found "${text}"`);
  return { network: text.slice(0, slash), ip };
}

function readCidrVip(at: YamlCursor): CidrVip {
  const fields = at.fields(["network", "cidr"], ["network", "cidr"]);
  const range = fields.get("cidr") ?? at;
  const text = range.text();
  return {
    network: (fields.get("network") ?? at).text(),
    cidr: parseCidr(text) ?? range.fail(`"${text}" is no address range`),
  };
}

function readWeighted(at: YamlCursor): WeightedWaypoint {
  const fields = at.fields(["destination", "weight"], ["destination", "weight"]);
  return {
    destination: readGateway(fields.get("destination") ?? at),
    weight: (fields.get("weight") ?? at).number(MAX_CAPACITY),
  };
}

function readLoadBalancer(at: YamlCursor): LoadBalancer {
  const keys = ["routingPreferences", "mode", "healthPolicy"];
  const fields = at.fields(keys, keys);
  return {
    routingPreferences: (fields.get("routingPreferences") ?? at).list((scope) =>
      scope.choice(["Network", "Region", "Zone", "Subzone", "Node", "Cluster"]),
    ),
    mode: (fields.get("mode") ?? at).choice(["Standard", "Strict", "Failover", "Passthrough"]),
    healthPolicy: (fields.get("healthPolicy") ?? at).choice(["OnlyHealthy", "AllowAll"]),
  };
}
