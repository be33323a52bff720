import {
  CONTROL_PLANE_HTTP_PORT,
  CONTROL_PLANE_MONITORING_PORT,
  CONTROL_PLANE_PORT,
  DEFAULT_CLUSTER_ID,
  MeshError,
  messageOf,
  SYSTEM_NAMESPACE,
  TOKEN_AUDIENCE,
} from "@tulle/base";
import {
  DEFAULT_ENABLEMENT,
  type EnrolmentSettings,
  readEnablement,
  readExcludedNamespaces,
} from "@tulle/base/enrolment";
import { type LogFormat, LogFilter } from "@tulle/telemetry";
import { parse } from "yaml";
import { DEFAULT_VIP_RANGES } from "./vip/vip-controller.ts";
import type { VipRanges } from "./vip/vip-registry.ts";
import { type Environment, EnvironmentReader } from "./environment.ts";

/** Everything that the environment decides, read once at the start. Names are istiod's; ours begin with TULLE_. */
export interface Config {
  readonly podName: string;
  /** Where the control plane is installed: the root namespace, unless MeshConfig names another. */
  readonly namespace: string;
  readonly revision: string;
  readonly clusterId: string;
  /** Shown by `/version` and in `istio_build`. */
  readonly version: string;
  readonly domainSuffix: string;
  readonly listen: ListenConfig;
  readonly auth: AuthConfig;
  readonly ca: CaConfig;
  /** Which pods may have certificates: what the node agents are given too. */
  readonly enrolment: EnrolmentSettings;
  /** Addresses that hosts of ServiceEntries are given. */
  readonly vip: { readonly enabled: boolean; readonly ranges: VipRanges };
  /** Changes are gathered for so long from the first one on. */
  readonly batchWindowMs: number;
  readonly maxStreamAgeMs: number;
  readonly drainMs: number;
  readonly logFormat: LogFormat;
  readonly logFilter: LogFilter;
}

export interface ListenConfig {
  /** Of xDS, CA, health and metrics alike. */
  readonly host: string;
  readonly secureGrpcPort: number;
  readonly httpPort: number;
  readonly monitoringPort: number;
}

export interface AuthConfig {
  readonly audiences: readonly string[];
  /** `namespace/serviceaccount`. */
  readonly trustedNodeAccounts: ReadonlySet<string>;
  /** The file of keys that sign tokens where there is no API server to review them. */
  readonly jwks: string | undefined;
  /** Namespaces besides our own whose callers may see everything under /debug. */
  readonly debugNamespaces: ReadonlySet<string>;
}

export interface CaConfig {
  readonly defaultTtlMs: number;
  readonly maxTtlMs: number;
  readonly selfSignedTtlMs: number;
  /** Where `cacerts` is mounted. */
  readonly rootDirectory: string;
  /** Names and addresses of the server's certificate besides those of the Service. */
  readonly customHosts: readonly string[];
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Shorter leaves would be renewed all the time. */
const MIN_TTL_MS = 60_000;
const MAX_TTL_MS = 20 * 365 * DAY_MS;
const CACERTS = "/etc/cacerts";
/** Long enough for what comes together, short enough that nobody notices. Also the most that is allowed. */
const BATCH_WINDOW_MS = 5;
const MAX_BATCH_WINDOW_MS = 10;
const STREAM_AGE_MS = 30 * 60_000;
const DRAIN_MS = 5_000;

export interface ConfigSources {
  /** Whether this machine has IPv6: then one socket serves both families. Default true. */
  readonly ipv6?: boolean;
}

/** Throws MeshError `INVALID_CONFIG` whose message lists everything that is wrong, a line each. */
export function readConfig(environment: Environment, { ipv6 = true }: ConfigSources = {}): Config {
  const env = new EnvironmentReader(environment);
  const namespace = env.text("POD_NAMESPACE") ?? SYSTEM_NAMESPACE;
  const ca = readCa(env);
  const config: Config = {
    podName: env.text("POD_NAME") ?? "istiod",
    namespace,
    revision: env.text("REVISION") ?? "default",
    clusterId: env.text("CLUSTER_ID") ?? DEFAULT_CLUSTER_ID,
    version: env.text("TULLE_VERSION") ?? "0.1.0",
    domainSuffix: env.text("DOMAIN_SUFFIX") ?? "cluster.local",
    listen: {
      host: env.text("TULLE_LISTEN_HOST") ?? (ipv6 ? "::" : "0.0.0.0"),
      secureGrpcPort: env.port("TULLE_SECURE_GRPC_PORT", CONTROL_PLANE_PORT),
      httpPort: env.port("TULLE_HTTP_PORT", CONTROL_PLANE_HTTP_PORT),
      monitoringPort: env.port("TULLE_MONITORING_PORT", CONTROL_PLANE_MONITORING_PORT),
    },
    auth: readAuth(env),
    ca,
    enrolment: readEnrolment(env, namespace),
    vip: readVip(env),
    batchWindowMs: env.duration("TULLE_BATCH_WINDOW", BATCH_WINDOW_MS, { min: 0, max: MAX_BATCH_WINDOW_MS }),
    maxStreamAgeMs: env.duration("TULLE_MAX_STREAM_AGE", STREAM_AGE_MS, { min: 1000, max: DAY_MS }),
    drainMs: env.duration("TERMINATION_DRAIN_DURATION", DRAIN_MS, { min: 0, max: 60_000 }),
    logFormat: env.oneOf("LOG_FORMAT", ["plain", "json"], "plain"),
    logFilter: readFilter(env),
  };
  if (env.problems.length === 0) return config;
  throw new MeshError(`the configuration is not usable:\n${env.problems.map((text) => `- ${text}`).join("\n")}`, {
    code: "INVALID_CONFIG",
    side: "internal",
  });
}

function readAuth(env: EnvironmentReader): AuthConfig {
  const accounts = env.list("CA_TRUSTED_NODE_ACCOUNTS") ?? [];
  for (const account of accounts) {
    if (/^[^/]+\/[^/]+$/.test(account)) continue;
    env.problem(`CA_TRUSTED_NODE_ACCOUNTS holds "${account}", which is not namespace/serviceaccount`);
  }
  return {
    audiences: env.list("TOKEN_AUDIENCES") ?? [TOKEN_AUDIENCE],
    trustedNodeAccounts: new Set(accounts),
    jwks: env.text("TULLE_TOKEN_JWKS"),
    debugNamespaces: new Set(env.list("DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES") ?? []),
  };
}

function readCa(env: EnvironmentReader): CaConfig {
  const range = { min: MIN_TTL_MS, max: MAX_TTL_MS };
  const ca: CaConfig = {
    defaultTtlMs: env.duration("DEFAULT_WORKLOAD_CERT_TTL", DAY_MS, range),
    maxTtlMs: env.duration("MAX_WORKLOAD_CERT_TTL", 90 * DAY_MS, range),
    selfSignedTtlMs: env.duration("CITADEL_SELF_SIGNED_CA_CERT_TTL", 3650 * DAY_MS, range),
    rootDirectory: env.text("ROOT_CA_DIR") ?? CACERTS,
    customHosts: env.list("ISTIOD_CUSTOM_HOST") ?? [],
  };
  if (ca.defaultTtlMs > ca.maxTtlMs) {
    env.problem("DEFAULT_WORKLOAD_CERT_TTL is more than MAX_WORKLOAD_CERT_TTL");
  }
  return ca;
}

/** As the node agent reads them. */
function readEnrolment(env: EnvironmentReader, systemNamespace: string): EnrolmentSettings {
  const read = <T>(name: string, from: (text: string | undefined) => T, fallback: T): T => {
    try {
      return from(env.text(name));
    } catch (error) {
      env.problem(`${name} cannot be read: ${messageOf(error)}`);
      return fallback;
    }
  };
  const selectors = (text: string | undefined) =>
    text === undefined ? DEFAULT_ENABLEMENT : readEnablement(parse(text));
  return {
    selectors: read("AMBIENT_ENABLEMENT_SELECTOR", selectors, DEFAULT_ENABLEMENT),
    excludeNamespaces: read("EXCLUDE_NAMESPACES", readExcludedNamespaces, new Set<string>()),
    systemNamespace,
  };
}

function readVip(env: EnvironmentReader): Config["vip"] {
  const { ipv4, ipv6 } = DEFAULT_VIP_RANGES;
  return {
    enabled: env.boolean("PILOT_ENABLE_IP_AUTOALLOCATE", true),
    ranges: {
      ipv4: ipv4 && env.cidr("PILOT_IP_AUTOALLOCATE_IPV4_PREFIX", ipv4),
      ipv6: ipv6 && env.cidr("PILOT_IP_AUTOALLOCATE_IPV6_PREFIX", ipv6),
    },
  };
}

function readFilter(env: EnvironmentReader): LogFilter {
  const filter = LogFilter.parse(env.text("TULLE_LOG") ?? "info");
  if (filter instanceof LogFilter) return filter;
  env.problem(`TULLE_LOG holds "${filter.invalid}", but must be a level, or scope=level,…`);
  return LogFilter.default;
}
