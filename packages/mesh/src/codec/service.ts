import { cidrOf } from "@tulle/base";
import type { AppProtocol, CidrVip, LoadBalancerMode, RoutingScope, Service } from "../model.ts";
import { malformed, type WireReader, type WireWriter } from "./wire.ts";
import { placeOf, readGateway, readPorts, writeGateway, writePorts } from "./workload.ts";

const MODES: readonly LoadBalancerMode[] = ["Standard", "Strict", "Failover", "Passthrough"];
const SCOPES: readonly RoutingScope[] = ["Network", "Region", "Zone", "Subzone", "Node", "Cluster"];
const HEALTH = ["OnlyHealthy", "AllowAll"] as const;
const FAMILIES = ["IPv4", "IPv6", "Dual"] as const;
const VISIBILITY = ["Public", "Namespace"] as const;
const APP_PROTOCOLS: readonly AppProtocol[] = ["HTTP11", "HTTP2", "GRPC", "TCP", "TLS"];

export function writeService(out: WireWriter, service: Service): void {
  out.text(service.name);
  out.text(service.namespace);
  out.text(service.hostname);
  out.list(service.vips, (vip) => {
    out.text(vip.network);
    out.ip(vip.ip);
  });
  out.list(service.cidrVips, (vip) => {
    out.text(vip.network);
    out.ipBytes(vip.cidr.bytes);
    out.byte(vip.cidr.bits);
  });
  writePorts(out, service.ports);
  out.list(service.subjectAltNames, (name) => out.text(name));
  out.optional(service.waypoint, (gateway) => writeGateway(out, gateway));
  out.list(service.weightedWaypoints, (item) => {
    writeGateway(out, item.destination);
    out.number(item.weight);
  });
  out.optional(service.loadBalancer, (balancer) => {
    out.list(balancer.routingPreferences, (scope) => out.byte(placeOf(SCOPES, scope)));
    out.byte(placeOf(MODES, balancer.mode));
    out.byte(placeOf(HEALTH, balancer.healthPolicy));
  });
  out.optional(service.ipFamilies, (families) => out.byte(placeOf(FAMILIES, families)));
  out.flag(service.canonical);
  out.byte(placeOf(VISIBILITY, service.visibility));
  out.optional(service.appProtocols, (protocols) => {
    out.number(protocols.size);
    for (const [port, protocol] of protocols) {
      out.number(port);
      out.byte(placeOf(APP_PROTOCOLS, protocol));
    }
  });
  out.optional(service.ingressUseWaypoint, (use) => out.flag(use));
}

export function readService(from: WireReader): Service {
  const service: Service = {
    name: from.text(),
    namespace: from.sharedText(),
    hostname: from.sharedText(),
    vips: from.list(() => ({ network: from.sharedText(), ip: from.ip() })),
    cidrVips: from.list(() => readCidrVip(from)),
    ports: readPorts(from),
    subjectAltNames: from.list(() => from.sharedText()),
    waypoint: from.optional(() => readGateway(from)),
    weightedWaypoints: from.list(() => ({ destination: readGateway(from), weight: from.number() })),
    loadBalancer: from.optional(() => ({
      routingPreferences: from.list(() => from.choice(SCOPES)),
      mode: from.choice(MODES),
      healthPolicy: from.choice(HEALTH),
    })),
    ipFamilies: from.optional(() => from.choice(FAMILIES)),
    canonical: from.flag(),
    visibility: from.choice(VISIBILITY),
  };
  const appProtocols = from.optional(() =>
    from.map(
      () => from.number(),
      () => from.choice(APP_PROTOCOLS),
    ),
  );
  const ingressUseWaypoint = from.optional(() => from.flag());
  return {
    ...service,
    ...(appProtocols === undefined ? {} : { appProtocols }),
    ...(ingressUseWaypoint === undefined ? {} : { ingressUseWaypoint }),
  };
}

function readCidrVip(from: WireReader): CidrVip {
  const network = from.sharedText();
  const cidr = cidrOf(from.ipBytes(), from.byte());
  if (cidr === undefined) throw malformed("address range with too long a prefix");
  return { network, cidr };
}
