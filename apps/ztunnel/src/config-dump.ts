import {
  DNS_PORT,
  formatCidr,
  formatIdentity,
  formatSocketAddress,
  INBOUND_HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  OUTBOUND_PORT,
} from "@tulle/base";
import type { Config } from "./config.ts";
import type { RootConfig } from "./config-control-plane.ts";
import type { LocalAddress } from "./config-values.ts";

/**
 * The effective settings as ztunnel shows them: under `config` in /config_dump, and in its log at the start (spec:
 * l4-ztunnel §9.1). Sources of local resources and credentials are left out. `tulle` holds what ztunnel does not have.
 */
export function dumpConfig(config: Config, proxyArgs: string): Readonly<Record<string, unknown>> {
  const wildcard = config.ipv6 ? "[::]" : "0.0.0.0";
  const { dns, xds, ca, self, keepAlive } = config;
  return {
    proxy: config.proxy,
    dnsProxy: dns !== undefined,
    windowSize: config.http2.streamWindow,
    connectionWindowSize: config.http2.connectionWindow,
    frameSize: config.http2.frameSize,
    poolMaxStreamsPerConn: config.pool.maxStreamsPerConnection,
    poolUnusedReleaseTimeout: duration(config.pool.unusedReleaseMs),
    socks5Addr: null,
    adminAddr: localAddress(config, { ip: undefined, port: config.adminPort }),
    statsAddr: new Variant("SocketAddr", `${wildcard}:${config.statsPort}`),
    readinessAddr: new Variant("SocketAddr", `${wildcard}:${config.readinessPort}`),
    inboundAddr: `${wildcard}:${INBOUND_HBONE_PORT}`,
    inboundPlaintextAddr: `${wildcard}:${INBOUND_PLAINTEXT_PORT}`,
    outboundAddr: `${wildcard}:${OUTBOUND_PORT}`,
    dnsProxyAddr: localAddress(config, dns?.address ?? { ip: undefined, port: DNS_PORT }),
    illegalPorts: ILLEGAL_PORTS,
    network: config.network,
    localNode: config.nodeName === "" ? null : config.nodeName,
    proxyMode: config.mode === "shared" ? "Shared" : "Dedicated",
    proxyWorkloadInformation: config.workload ?? null,
    clusterId: config.clusterId,
    clusterDomain: config.clusterDomain,
    caAddress: ca?.address ?? null,
    caRootCert: roots(ca?.roots),
    altCaHostname: ca?.altHostname ?? null,
    xdsAddress: xds?.address ?? null,
    xdsRootCert: roots(xds?.roots),
    altXdsHostname: xds?.altHostname ?? null,
    preferedServiceNamespace: dns?.preferredNamespace ?? null,
    secretTtl: duration(config.secretTtlMs),
    xdsOnDemand: config.xdsOnDemand,
    fakeCa: false,
    fakeSelfInbound: false,
    selfTerminationDeadline: duration(config.terminationDeadlineMs),
    proxyMetadata: config.metadata,
    numWorkerThreads: config.threads,
    requireOriginalSource: config.originalSource ?? null,
    proxyArgs,
    ...resolver(config),
    inpodUds: config.inpodSocket,
    inpodPortReuse: config.inpodPortReuse,
    packetMark: config.packetMark ?? null,
    socketConfig: {
      keepaliveTime: duration((keepAlive?.idleSeconds ?? 0) * 1000),
      keepaliveInterval: duration((keepAlive?.intervalSeconds ?? 0) * 1000),
      keepaliveRetries: keepAlive?.retries ?? 0,
      keepaliveEnabled: keepAlive !== undefined,
      userTimeoutEnabled: keepAlive?.userTimeoutMs !== undefined,
    },
    xdsHeaders: headerNames(xds?.headers),
    caHeaders: headerNames(ca?.headers),
    localhostAppTunnel: config.localhostAppTunnel,
    ztunnelIdentity: self === undefined ? null : formatIdentity(self.identity),
    ztunnelWorkload: self?.workload ?? null,
    ipv6Enabled: config.ipv6,
    enableEnhancedBaggage: config.responseBaggage,
    crlPath: null,
    tulle: {
      meshCidrs: config.meshCidrs.map(formatCidr),
      certificatesDirectory: config.certificatesDirectory ?? null,
      poolMaxAge: duration(config.pool.maxAgeMs),
      limits: config.limits,
    },
  };
}

/** `key: value` lines as ztunnel prints its configuration at the start; variants are tagged: `!File ./root.pem`. */
export function printConfig(dump: Readonly<Record<string, unknown>>): string {
  return Object.entries(dump)
    .map(([key, value]) => `${key}:${yaml(value, "")}`)
    .join("\n");
}

/** Ports of the proxy itself: a connection to them through the proxy would loop. */
const ILLEGAL_PORTS: readonly number[] = [OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, INBOUND_HBONE_PORT];

/** A value of a type with variants: JSON shows {"File": "…"}, YAML a tag. */
class Variant {
  readonly name: string;
  readonly value: unknown;

  constructor(name: string, value: unknown) {
    this.name = name;
    this.value = value;
  }

  toJSON(): unknown {
    return { [this.name]: this.value };
  }
}

function localAddress(config: Config, { ip, port }: LocalAddress): Variant {
  if (ip === undefined) return new Variant("Localhost", [config.ipv6 && config.ipv6Loopback, port]);
  return new Variant("SocketAddr", formatSocketAddress({ ip, port }));
}

function duration(ms: number): { readonly secs: number; readonly nanos: number } {
  const secs = Math.floor(ms / 1000);
  return { secs, nanos: Math.round((ms - secs * 1000) * 1e6) };
}

function roots(source: RootConfig | undefined): Variant | string | null {
  switch (source?.kind) {
    case undefined:
      return null;
    case "file":
      return new Variant("File", source.path);
    case "pem":
      return new Variant("Static", source.pem);
    case "system":
      return "Default";
    default:
      return source satisfies never;
  }
}

/** Names only: a value may be a credential. */
function headerNames(headers: Readonly<Record<string, string>> = {}): readonly (readonly [string, string])[] {
  return Object.keys(headers).map((name) => [name, "[hidden]"] as const);
}

function resolver(config: Config): Readonly<Record<string, unknown>> {
  const { dns } = config;
  if (dns === undefined) return { dnsResolverCfg: null, dnsResolverOpts: null };
  const { nameservers, search, ndots, timeoutMs, attempts } = dns.resolver;
  return {
    dnsResolverCfg: {
      domain: null,
      search,
      name_servers: nameservers.map((ip) => ({
        ip,
        trust_negative_responses: true,
        connections: [connection("udp"), connection("tcp")],
      })),
    },
    dnsResolverOpts: { ndots, timeout: timeoutMs / 1000, attempts },
  };
}

function connection(type: "udp" | "tcp"): object {
  return { port: 53, protocol: { type }, bind_addr: null };
}

/** Block style. What follows a key: ` scalar`, or lines that begin with a line feed. */
function yaml(value: unknown, indent: string): string {
  if (value instanceof Variant) return ` !${value.name}${yaml(value.value, indent)}`;
  if (Array.isArray(value)) {
    if (value.length === 0) return " []";
    return value.map((item) => `\n${indent}-${item instanceof Object ? nested(item, indent) : scalar(item)}`).join("");
  }
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value);
    if (entries.length === 0) return " {}";
    return entries.map(([key, item]) => `\n${indent}  ${key}:${yaml(item, `${indent}  `)}`).join("");
  }
  return scalar(value);
}

/** An item of a list: its first line goes beside the dash. */
function nested(item: object, indent: string): string {
  return yaml(item, indent).replace(/^\n\s*/, " ");
}

function scalar(value: unknown): string {
  if (typeof value !== "string") return ` ${String(value)}`;
  // Quoted wherever plain text could be read as something else.
  const plain =
    /^[\w./][\w./:@ -]*$/.test(value) &&
    Number.isNaN(Number(value)) &&
    !/^(true|false|null|yes|no|on|off)$|: |\s$/i.test(value);
  if (plain) return ` ${value}`;
  return value.includes("\n") ? ` ${JSON.stringify(value)}` : ` '${value.replaceAll("'", "''")}'`;
}
