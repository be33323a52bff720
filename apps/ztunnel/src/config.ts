import { existsSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { ADMIN_PORT, type Identity, MeshError, METRICS_PORT, PACKET_MARK, READINESS_PORT } from "@tulle/base";
import { LogFilter, type LogFormat } from "@tulle/telemetry";
import {
  type ControlPlaneConfig,
  readCa,
  readToken,
  readXds,
  type TokenConfig,
  type XdsConfig,
} from "./config-control-plane.ts";
import { type DataPathConfig, readDataPath } from "./config-data-path.ts";
import { type ProxyConfig, readProxyConfig } from "./config-proxy.ts";
import { workerThreads } from "./config-threads.ts";
import { EnvironmentReader } from "./config-values.ts";
import type { WorkloadInfo } from "./protocol.ts";
import { terminationDeadlineMs } from "./termination.ts";

/** Everything that the environment decides, read once at the start (spec: l4-ztunnel §10; docs list what is ours). */
export interface Config extends DataPathConfig {
  readonly proxy: boolean;
  readonly mode: "shared" | "dedicated";
  /** The one workload of dedicated mode. */
  readonly workload: WorkloadInfo | undefined;
  /** ztunnel's own pod, when it is told who it is. */
  readonly self: { readonly workload: WorkloadInfo; readonly identity: Identity } | undefined;
  /** Of our own identity: in dedicated mode with certificates from files, the workload's. */
  readonly trustDomain: string;
  readonly network: string;
  readonly nodeName: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  readonly xds: XdsConfig | undefined;
  /** Addresses are asked for when a connection needs them. */
  readonly xdsOnDemand: boolean;
  readonly ca: ControlPlaneConfig | undefined;
  /** Lifetime that is asked of the CA. */
  readonly secretTtlMs: number;
  readonly token: TokenConfig;
  /** Resources from a file that is watched, or from the variable itself. */
  readonly localXds:
    | { readonly kind: "file"; readonly path: string }
    | { readonly kind: "inline"; readonly text: string }
    | undefined;
  /** Certificates from files instead of a CA. */
  readonly certificatesDirectory: string | undefined;
  /** proxyMetadata with ISTIO_META_* over it. */
  readonly metadata: Readonly<Record<string, string>>;
  /** ISTIO_METAJSON_*. */
  readonly jsonMetadata: Readonly<Record<string, unknown>>;
  readonly threads: number;
  readonly packetMark: number | undefined;
  readonly originalSource: boolean | undefined;
  readonly inpodSocket: string;
  readonly inpodPortReuse: boolean;
  readonly localhostAppTunnel: boolean;
  readonly responseBaggage: boolean;
  readonly dryRunAtInfo: boolean;
  readonly pqcOnly: boolean;
  readonly ipv6: boolean;
  /** ::1 can be bound beside 127.0.0.1. */
  readonly ipv6Loopback: boolean;
  readonly adminPort: number;
  readonly statsPort: number;
  readonly readinessPort: number;
  readonly terminationDeadlineMs: number;
  readonly logFormat: LogFormat;
  readonly logFilter: LogFilter;
  readonly istioVersion: string;
  /** To be logged at the start. */
  readonly warnings: readonly string[];
}

/** What the configuration is read from. Default: this process and its machine. */
export interface ConfigSources {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Content of a file, or undefined when it cannot be read. */
  readonly readFile: (path: string) => string | undefined;
  readonly exists: (path: string) => boolean;
  readonly cores: number;
}

const MESH_FILE = "./etc/istio/config/mesh";
const DEFAULT_INPOD_SOCKET = "/var/run/ztunnel/ztunnel.sock";
const DEFAULT_SECRET_TTL_MS = 24 * 3_600_000;
const MAX_INT32 = 2 ** 31 - 1;

/** Variables whose feature does not exist yet: setting one stops the start, because ignoring it would be a lie. */
const LATER: readonly (readonly [name: string, harmless: (value: string) => boolean])[] = [
  ["CRL_PATH", () => false],
  ["CRL_FAIL_OPEN", (value) => value === "false"],
  ["TLS12_ENABLED", (value) => value === "false"],
  ["UNSTABLE_ENABLE_SOCKS5", (value) => value === "false"],
  ["FAKE_CA", (value) => value === "false"],
];

/** Our own variables; another one that begins like them may be a typing error. */
const OWN_PREFIX = "TULLE_";
const OWN_VARIABLES = [
  "TULLE_CERTIFICATES_DIR",
  "TULLE_MAX_BUFFERED_BYTES_PER_POD",
  "TULLE_MAX_CONNECTIONS_PER_POD",
  "TULLE_MAX_UNAUTHENTICATED_PER_LISTENER",
  "TULLE_MAX_UNAUTHENTICATED_PER_SOURCE",
  "TULLE_POOL_MAX_AGE",
];

/** Throws MeshError `INVALID_CONFIG` whose message lists everything that is wrong, a line each. */
export async function readConfig(sources: ConfigSources = processSources()): Promise<Config> {
  const env = new EnvironmentReader(sources.env);
  const proxyConfig = await readProxyConfig(env, { path: MESH_FILE, text: sources.readFile(MESH_FILE) });
  const config = assemble(env, sources, proxyConfig);
  if (env.problems.length === 0) return config;
  throw new MeshError(`the configuration is not usable:\n${env.problems.map((text) => `- ${text}`).join("\n")}`, {
    code: "INVALID_CONFIG",
    side: "internal",
  });
}

function processSources(): ConfigSources {
  return {
    env: process.env,
    readFile: (path) => {
      try {
        return readFileSync(path, "utf8");
      } catch {
        // Every file that is read so is optional.
        return undefined;
      }
    },
    exists: existsSync,
    cores: availableParallelism(),
  };
}

function assemble(env: EnvironmentReader, sources: ConfigSources, proxyConfig: ProxyConfig): Config {
  const warnings = checkNames(env);
  const metadata = { ...proxyConfig.proxyMetadata, ...Object.fromEntries(env.prefixed("ISTIO_META_")) };
  const jsonMetadata = readJsonMetadata(env);
  const mode = env.oneOf("PROXY_MODE", ["shared", "dedicated"], "shared");
  const clusterId = env.text("ISTIO_META_CLUSTER_ID") ?? env.text("CLUSTER_ID") ?? "Kubernetes";
  const proxy = env.boolean("ENABLE_PROXY", true);
  const dataPath = readDataPath(env, sources.readFile, metadata);
  if (!proxy && dataPath.dns === undefined) {
    env.problem("ENABLE_PROXY is false and DNS capture is off: there is nothing to do");
  }
  const xdsOnDemand = env.boolean("XDS_ON_DEMAND", false);
  if (xdsOnDemand && dataPath.dns !== undefined) {
    env.problem("XDS_ON_DEMAND and DNS capture exclude each other: set ISTIO_META_DNS_CAPTURE=false");
  }
  const certificatesDirectory = env.text("TULLE_CERTIFICATES_DIR");
  const ca = readCa(env, sources, certificatesDirectory !== undefined);
  const xds = readXds(env, sources, { discoveryAddress: proxyConfig.discoveryAddress, metadata, jsonMetadata });
  return {
    ...dataPath,
    proxy,
    mode,
    workload: readWorkload(env, mode),
    self: readSelf(env),
    trustDomain: readTrustDomain(env),
    network: env.raw("NETWORK") ?? "",
    nodeName: env.raw("NODE_NAME") ?? "",
    clusterId,
    clusterDomain: env.text("CLUSTER_DOMAIN") ?? "cluster.local",
    xds,
    xdsOnDemand,
    ca,
    secretTtlMs: env.duration("SECRET_TTL", DEFAULT_SECRET_TTL_MS),
    token: readToken(env, sources),
    localXds: readLocalXds(env),
    certificatesDirectory,
    metadata,
    jsonMetadata,
    threads: workerThreads(env, proxyConfig.concurrency, sources.cores),
    packetMark: env.integer("PACKET_MARK", mode === "shared" ? PACKET_MARK : undefined, { min: 0, max: 2 ** 32 - 1 }),
    originalSource: env.boolean("ENABLE_ORIG_SRC", undefined),
    inpodSocket: env.text("INPOD_UDS") ?? DEFAULT_INPOD_SOCKET,
    inpodPortReuse: env.boolean("INPOD_PORT_REUSE", true),
    localhostAppTunnel: env.boolean("LOCALHOST_APP_TUNNEL", true),
    responseBaggage: env.boolean("ENABLE_RESPONSE_BAGGAGE", true),
    dryRunAtInfo: env.boolean("AUTHZ_POLICY_INFO_LOGGING", false),
    pqcOnly: env.oneOf("COMPLIANCE_POLICY", ["none", "pqc"], "none") === "pqc",
    ipv6: env.boolean("IPV6_ENABLED", true),
    ipv6Loopback: sources.readFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6")?.trim() === "0",
    adminPort: proxyConfig.proxyAdminPort ?? ADMIN_PORT,
    statsPort: proxyConfig.statsPort ?? METRICS_PORT,
    readinessPort: READINESS_PORT,
    terminationDeadlineMs: terminationDeadlineMs(
      env.duration("CONNECTION_TERMINATION_DEADLINE", undefined),
      env.integer("TERMINATION_GRACE_PERIOD_SECONDS", undefined, { min: 0, max: MAX_INT32 }),
    ),
    logFormat: env.oneOf("LOG_FORMAT", ["plain", "json"], "plain"),
    logFilter: readFilter(env),
    istioVersion: metadata["ISTIO_VERSION"] ?? "unknown",
    warnings,
  };
}

/** What is wrong but harmless. */
function checkNames(env: EnvironmentReader): readonly string[] {
  const warnings: string[] = [];
  for (const [name, harmless] of LATER) {
    const value = env.text(name);
    if (value !== undefined && !harmless(value)) {
      env.problem(`${name} is set, but this version of Tulle does not have the feature yet: unset it to start without`);
    }
  }
  for (const [rest] of env.prefixed(OWN_PREFIX)) {
    if (!OWN_VARIABLES.includes(OWN_PREFIX + rest)) warnings.push(`${OWN_PREFIX}${rest} is not a variable of ztunnel`);
  }
  return warnings;
}

/** `namespace/name/serviceaccount`. */
function readWorkload(env: EnvironmentReader, mode: "shared" | "dedicated"): WorkloadInfo | undefined {
  const value = env.text("PROXY_WORKLOAD_INFO");
  if (value === undefined) {
    if (mode === "dedicated")
      env.problem("PROXY_MODE is dedicated, so PROXY_WORKLOAD_INFO must say for which workload");
    return undefined;
  }
  const [namespace, name, serviceAccount, ...rest] = value.split("/");
  if (namespace && name && serviceAccount && rest.length === 0) return { namespace, name, serviceAccount };
  env.problem(`PROXY_WORKLOAD_INFO is "${value}", but must be namespace/name/serviceaccount`);
  return undefined;
}

function readTrustDomain(env: EnvironmentReader): string {
  return env.text("TRUST_DOMAIN") ?? "cluster.local";
}

function readSelf(env: EnvironmentReader): Config["self"] {
  const [name, namespace, serviceAccount] = ["POD_NAME", "POD_NAMESPACE", "SERVICE_ACCOUNT"].map((one) =>
    env.text(one),
  );
  if (name === undefined || namespace === undefined || serviceAccount === undefined) return undefined;
  const identity = { trustDomain: readTrustDomain(env), namespace, serviceAccount };
  return { workload: { name, namespace, serviceAccount }, identity };
}

function readLocalXds(env: EnvironmentReader): Config["localXds"] {
  const path = env.text("LOCAL_XDS_PATH");
  const text = env.text("LOCAL_XDS");
  if (path !== undefined && text !== undefined) env.problem("LOCAL_XDS_PATH and LOCAL_XDS exclude each other");
  if (path !== undefined) return { kind: "file", path };
  return text === undefined ? undefined : { kind: "inline", text };
}

function readJsonMetadata(env: EnvironmentReader): Readonly<Record<string, unknown>> {
  const result: Record<string, unknown> = {};
  for (const [name, value] of env.prefixed("ISTIO_METAJSON_")) {
    try {
      result[name] = JSON.parse(value);
    } catch {
      env.problem(`ISTIO_METAJSON_${name} is not JSON`);
    }
  }
  return result;
}

function readFilter(env: EnvironmentReader): LogFilter {
  const filter = LogFilter.fromEnvironment(env.text("RUST_LOG"));
  if (filter instanceof LogFilter) return filter;
  env.problem(`RUST_LOG: "${filter.invalid}" is not a level or scope=level`);
  return LogFilter.default;
}
