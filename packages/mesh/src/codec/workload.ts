import type { ApplicationTunnel, GatewayAddress, Locality, TunnelProtocol, Workload, WorkloadType } from "../model.ts";
import { malformed, type WireReader, type WireWriter } from "./wire.ts";

/** Places in these lists are the encoding. Both ends are always of the same build, so they may change. */
const PROTOCOLS: readonly TunnelProtocol[] = ["TCP", "HBONE"];
const WORKLOAD_TYPES: readonly WorkloadType[] = ["deployment", "cronjob", "pod", "job"];
const TUNNEL_PROTOCOLS: readonly ApplicationTunnel["protocol"][] = ["NONE", "PROXY"];

export function writeWorkload(out: WireWriter, workload: Workload): void {
  out.text(workload.uid);
  out.text(workload.name);
  out.text(workload.namespace);
  out.text(workload.trustDomain);
  out.text(workload.serviceAccount);
  out.list(workload.addresses, (ip) => out.ip(ip));
  out.text(workload.hostname);
  out.text(workload.network);
  out.byte(placeOf(PROTOCOLS, workload.protocol));
  out.flag(workload.hostNetwork);
  out.flag(workload.nativeTunnel);
  out.text(workload.node);
  out.optional(workload.waypoint, (gateway) => writeGateway(out, gateway));
  out.optional(workload.networkGateway, (gateway) => writeGateway(out, gateway));
  out.optional(workload.applicationTunnel, (tunnel) => {
    out.byte(placeOf(TUNNEL_PROTOCOLS, tunnel.protocol));
    out.optional(tunnel.port, (port) => out.number(port));
  });
  out.number(workload.services.size);
  for (const [key, ports] of workload.services) {
    out.text(key);
    writePorts(out, ports);
  }
  out.list(workload.authorizationPolicies, (key) => out.text(key));
  out.flag(workload.healthy);
  out.number(workload.capacity);
  out.text(workload.clusterId);
  out.text(workload.locality.region);
  out.text(workload.locality.zone);
  out.text(workload.locality.subzone);
  out.text(workload.workloadName);
  out.byte(placeOf(WORKLOAD_TYPES, workload.workloadType));
  out.text(workload.canonicalName);
  out.text(workload.canonicalRevision);
}

export function readWorkload(from: WireReader): Workload {
  return {
    uid: from.text(),
    name: from.text(),
    namespace: from.sharedText(),
    trustDomain: from.sharedText(),
    serviceAccount: from.sharedText(),
    addresses: from.list(() => from.ip()),
    hostname: from.text(),
    network: from.sharedText(),
    protocol: from.choice(PROTOCOLS),
    hostNetwork: from.flag(),
    nativeTunnel: from.flag(),
    node: from.sharedText(),
    waypoint: from.optional(() => readGateway(from)),
    networkGateway: from.optional(() => readGateway(from)),
    applicationTunnel: from.optional(() => ({
      protocol: from.choice(TUNNEL_PROTOCOLS),
      port: from.optional(() => from.number()),
    })),
    services: from.map(
      () => from.sharedText(),
      () => readPorts(from),
    ),
    authorizationPolicies: from.list(() => from.sharedText()),
    healthy: from.flag(),
    capacity: from.number(),
    clusterId: from.sharedText(),
    locality: readLocality(from),
    workloadName: from.sharedText(),
    workloadType: from.choice(WORKLOAD_TYPES),
    canonicalName: from.sharedText(),
    canonicalRevision: from.sharedText(),
  };
}

export function writeGateway(out: WireWriter, gateway: GatewayAddress): void {
  const { destination } = gateway;
  switch (destination.kind) {
    case "address":
      out.byte(0);
      out.text(destination.network);
      out.ip(destination.ip);
      break;
    case "hostname":
      out.byte(1);
      out.text(destination.namespace);
      out.text(destination.hostname);
      break;
    default:
      destination satisfies never;
  }
  out.number(gateway.hboneMtlsPort);
}

export function readGateway(from: WireReader): GatewayAddress {
  const kind = from.choice(["address", "hostname"] as const);
  const destination =
    kind === "address"
      ? { kind, network: from.sharedText(), ip: from.ip() }
      : { kind, namespace: from.sharedText(), hostname: from.sharedText() };
  return { destination, hboneMtlsPort: from.number() };
}

export function writePorts(out: WireWriter, ports: ReadonlyMap<number, number>): void {
  out.number(ports.size);
  for (const [port, target] of ports) {
    out.number(port);
    out.number(target);
  }
}

export function readPorts(from: WireReader): ReadonlyMap<number, number> {
  return from.map(
    () => from.number(),
    () => from.number(),
  );
}

export function placeOf<T>(values: readonly T[], value: T): number {
  const place = values.indexOf(value);
  if (place < 0) throw malformed(`${String(value)} is none of ${values.join(", ")}`);
  return place;
}

function readLocality(from: WireReader): Locality {
  const region = from.sharedText();
  const zone = from.sharedText();
  const subzone = from.sharedText();
  return region === "" && zone === "" && subzone === "" ? NO_LOCALITY : { region, zone, subzone };
}

const NO_LOCALITY: Locality = { region: "", zone: "", subzone: "" };
