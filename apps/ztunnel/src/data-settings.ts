import { formatCidr, INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT } from "@tulle/base";
import type { Config } from "./config.ts";
import type { DataSettings, DnsSettings } from "./protocol.ts";

/** The configuration as a data thread gets it: plain data that can be sent. */
export function dataSettings(config: Config): Omit<DataSettings, "threadIndex"> {
  return {
    network: config.network,
    nodeName: config.nodeName,
    clusterId: config.clusterId,
    clusterDomain: config.clusterDomain,
    ipv6: config.ipv6,
    packetMark: config.packetMark,
    originalSource: config.originalSource,
    reusePort: config.inpodPortReuse,
    keepAlive: config.keepAlive,
    proxy: config.proxy,
    ports: {
      outbound: OUTBOUND_PORT,
      inboundPlaintext: INBOUND_PLAINTEXT_PORT,
      inboundHbone: INBOUND_HBONE_PORT,
    },
    meshCidrs: config.meshCidrs.map(formatCidr),
    pool: config.pool,
    http2: config.http2,
    responseBaggage: config.responseBaggage,
    pqcOnly: config.pqcOnly,
    dryRunAtInfo: config.dryRunAtInfo,
    onDemand: config.xdsOnDemand,
    limits: config.limits,
    dns: dnsSettings(config),
  };
}

function dnsSettings(config: Config): DnsSettings | undefined {
  const { dns, mode } = config;
  if (dns === undefined) return undefined;
  const { resolver, address, preferredNamespace, hosts } = dns;
  return {
    port: address.port,
    ip: address.ip,
    preferredNamespace,
    searchDomains: mode === "dedicated" ? resolver.search : undefined,
    upstreams: resolver.nameservers,
    timeoutMs: resolver.timeoutMs,
    attempts: resolver.attempts,
    hosts,
  };
}
