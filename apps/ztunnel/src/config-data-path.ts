import { type Cidr, DNS_PORT } from "@tulle/base";
import type { KeepAlive } from "@tulle/reactor";
import { parseHosts, parseResolvConf, type ResolverConfig } from "./config-resolver.ts";
import type { EnvironmentReader, LocalAddress } from "./config-values.ts";
import type { DataLimits, DataSettings } from "./protocol.ts";

/** The part of the configuration that the data path works with (spec: l4-ztunnel §10). */
export interface DataPathConfig {
  readonly dns: DnsConfig | undefined;
  readonly pool: DataSettings["pool"];
  readonly http2: DataSettings["http2"];
  readonly keepAlive: KeepAlive | undefined;
  readonly meshCidrs: readonly Cidr[];
  readonly limits: DataLimits;
}

export interface DnsConfig {
  readonly address: LocalAddress;
  readonly preferredNamespace: string | undefined;
  readonly resolver: ResolverConfig;
  readonly hosts: ReadonlyMap<string, readonly string[]>;
}

const DEFAULT_KEEPALIVE_MS = 180_000;
const DEFAULT_KEEPALIVE_RETRIES = 9;
const DEFAULT_POOL_RELEASE_MS = 300_000;
/** A pooled connection takes part in certificate rotation and load spreading at least this often. */
const DEFAULT_POOL_MAX_AGE_MS = 3_600_000;
const MIB = 1 << 20;
const MAX_INT32 = 2 ** 31 - 1;

/** Room for 10,000 tunnels of one pod and as many new ones while the old ones end. */
const DEFAULT_POD_CONNECTIONS = 20_000;
/** Eight peers that read nothing, each with a full connection window. */
const DEFAULT_POD_BUFFERED = 128 * MIB;
/** Handshakes that one listener has under way on one thread: at 5,000 a second, those of 200 ms. */
const DEFAULT_UNAUTHENTICATED = 1024;
const DEFAULT_UNAUTHENTICATED_PER_SOURCE = 256;

/** `readFile`: content of a file, or undefined when it cannot be read. */
export function readDataPath(
  env: EnvironmentReader,
  readFile: (path: string) => string | undefined,
  metadata: Readonly<Record<string, string>>,
): DataPathConfig {
  return {
    dns: readDns(env, readFile, metadata),
    pool: {
      maxStreamsPerConnection: env.integer("POOL_MAX_STREAMS_PER_CONNECTION", 100, { min: 1, max: 65_535 }),
      unusedReleaseMs: env.duration("POOL_UNUSED_RELEASE_TIMEOUT", DEFAULT_POOL_RELEASE_MS),
      maxAgeMs: env.duration("TULLE_POOL_MAX_AGE", DEFAULT_POOL_MAX_AGE_MS),
    },
    http2: {
      streamWindow: env.integer("HTTP2_STREAM_WINDOW_SIZE", 4 * MIB, { min: 1024, max: MAX_INT32 }),
      connectionWindow: env.integer("HTTP2_CONNECTION_WINDOW_SIZE", 16 * MIB, { min: 65_535, max: MAX_INT32 }),
      // RFC 9113 §6.5.2: SETTINGS_MAX_FRAME_SIZE.
      frameSize: env.integer("HTTP2_FRAME_SIZE", MIB, { min: 16_384, max: 16_777_215 }),
    },
    keepAlive: readKeepAlive(env),
    meshCidrs: env.cidrs("MESH_CIDRS"),
    limits: readLimits(env),
  };
}

function readDns(
  env: EnvironmentReader,
  readFile: (path: string) => string | undefined,
  metadata: Readonly<Record<string, string>>,
): DnsConfig | undefined {
  if ((metadata["DNS_CAPTURE"] ?? "true").toLowerCase() !== "true") return undefined;
  const fallback = { ip: undefined, port: DNS_PORT };
  return {
    address: env.localAddress("ISTIO_META_DNS_PROXY_ADDR", metadata["DNS_PROXY_ADDR"], fallback),
    preferredNamespace: env.text("PREFERED_SERVICE_NAMESPACE"),
    resolver: parseResolvConf(readFile("/etc/resolv.conf") ?? ""),
    hosts: parseHosts(readFile("/etc/hosts") ?? ""),
  };
}

function readKeepAlive(env: EnvironmentReader): KeepAlive | undefined {
  const idleSeconds = Math.ceil(env.duration("KEEPALIVE_TIME", DEFAULT_KEEPALIVE_MS) / 1000);
  const intervalSeconds = Math.ceil(env.duration("KEEPALIVE_INTERVAL", DEFAULT_KEEPALIVE_MS) / 1000);
  const retries = env.integer("KEEPALIVE_RETRIES", DEFAULT_KEEPALIVE_RETRIES, { min: 1, max: 127 });
  const userTimeout = env.boolean("USER_TIMEOUT_ENABLED", false);
  if (!env.boolean("KEEPALIVE_ENABLED", true)) {
    if (userTimeout)
      env.problem("USER_TIMEOUT_ENABLED follows from the keep-alive times, so KEEPALIVE_ENABLED must be true");
    return undefined;
  }
  return {
    idleSeconds,
    intervalSeconds,
    retries,
    ...(userTimeout && { userTimeoutMs: (idleSeconds + retries * intervalSeconds) * 1000 }),
  };
}

function readLimits(env: EnvironmentReader): DataLimits {
  const limit = (name: string, fallback: number, max: number) => env.integer(name, fallback, { min: 1, max });
  return {
    connectionsPerPod: limit("TULLE_MAX_CONNECTIONS_PER_POD", DEFAULT_POD_CONNECTIONS, 1_000_000),
    // The counter that the threads share has 32 bits.
    bufferedBytesPerPod: limit("TULLE_MAX_BUFFERED_BYTES_PER_POD", DEFAULT_POD_BUFFERED, 1024 * MIB),
    unauthenticatedPerListener: limit("TULLE_MAX_UNAUTHENTICATED_PER_LISTENER", DEFAULT_UNAUTHENTICATED, 1_000_000),
    unauthenticatedPerSource: limit(
      "TULLE_MAX_UNAUTHENTICATED_PER_SOURCE",
      DEFAULT_UNAUTHENTICATED_PER_SOURCE,
      1_000_000,
    ),
  };
}
