import { canonicalIp, isIpv6, type LogLevel, MeshError, messageOf, SYSTEM_NAMESPACE } from "@tulle/base";
import {
  DEFAULT_ENABLEMENT,
  type EnablementSelector,
  readEnablement,
  readExcludedNamespaces,
} from "@tulle/base/enrolment";
import { DEFAULT_PROBE_IPS } from "@tulle/linux";
import { parse } from "yaml";
import { EnvironmentReader } from "./environment.ts";

/** Everything that the environment decides, read once (spec: control-plane §7.10; names with TULLE_ are ours). */
export interface Config {
  readonly nodeName: string;
  /** Namespace of ztunnel, of this agent and of MeshConfig; of the mesh's PeerAuthentications, unless that names another. */
  readonly systemNamespace: string;
  readonly excludeNamespaces: ReadonlySet<string>;
  readonly enablement: readonly EnablementSelector[];
  readonly dnsCapture: boolean;
  readonly ipv6: boolean;
  /** ZDS. Its folder is made private to root. */
  readonly zdsSocket: string;
  /** Holds the plugin's socket; made private to root. */
  readonly runDirectory: string;
  /** Where the container runtime keeps the pods' network namespaces, as this process sees it. */
  readonly netnsDirectory: string;
  /** The same folder as the runtime calls it; what the plugin hands over begins with one of these. */
  readonly netnsAliases: readonly string[];
  /** The host's network namespace. */
  readonly hostNamespace: string;
  /** Source addresses of the kubelet's probes in the pods; none: no exemption (nobody knocks from the host). */
  readonly probeIps: readonly string[];
  /** How it is found out whether a process that connects to ZDS is this node's ztunnel. */
  readonly peerCheck: "cgroup" | "annotation";
  /** What SIGTERM means: look whether the DaemonSet is gone; leave the pods as they are; take all out of the mesh. */
  readonly onTermination: "ask" | "keep" | "remove";
  /** How long pods that are deleted from under us, or the agent's removal, wait for captured connections. */
  readonly drainDeadlineMs: number;
  /** How long the control plane may take to say that nobody sends HBONE to a leaving pod any more. */
  readonly leaveTimeoutMs: number;
  /** Install the CNI plugin. */
  readonly installPlugin: boolean;
  readonly readinessPort: number;
  readonly metricsPort: number;
  readonly logLevel: LogLevel;
  readonly logFormat: "plain" | "json";
}

const RUN_DIRECTORY = "/var/run/istio-cni";
const ZDS_SOCKET = "/var/run/ztunnel/ztunnel.sock";
const NETNS_DIRECTORY = "/var/run/netns";
/** /var/run is a link to /run nearly everywhere: a runtime may say either. */
const NETNS_ALIASES = ["/var/run/netns", "/run/netns"];
const READINESS_PORT = 8000;
const METRICS_PORT = 15014;
const DRAIN_DEADLINE_MS = 10_000;
const LEAVE_TIMEOUT_MS = 10_000;
/** Longer than any pod's grace period makes sense. */
const MAX_DEADLINE_MS = 300_000;

/** Throws MeshError `INVALID_CONFIG` whose message lists everything that is wrong, a line each. */
export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const reader = new EnvironmentReader(env);
  const local = reader.oneOf("TULLE_STORE", ["kubernetes", "directory"], "kubernetes") === "directory";
  const netnsDirectory = reader.path("CNI_NETNS_DIR", NETNS_DIRECTORY);
  const config: Config = {
    nodeName: reader.required("NODE_NAME", "the name of this node, from spec.nodeName of the agent's own pod"),
    systemNamespace: reader.text("SYSTEM_NAMESPACE") ?? SYSTEM_NAMESPACE,
    excludeNamespaces: readExcluded(reader),
    enablement: readSelectors(reader),
    dnsCapture: reader.boolean("AMBIENT_DNS_CAPTURE", true),
    ipv6: reader.boolean("AMBIENT_IPV6", true),
    zdsSocket: reader.path("ZTUNNEL_UDS_ADDRESS", ZDS_SOCKET),
    runDirectory: reader.path("CNI_AGENT_RUN_DIR", RUN_DIRECTORY),
    netnsDirectory,
    netnsAliases: [...new Set([netnsDirectory, ...NETNS_ALIASES])],
    hostNamespace: reader.path("TULLE_HOST_NETNS", "/proc/1/ns/net"),
    probeIps: reader.boolean("TULLE_PROBE_EXEMPTION", !local) ? readProbeIps(reader) : [],
    peerCheck: reader.oneOf("TULLE_PEER_CHECK", ["cgroup", "annotation"], local ? "annotation" : "cgroup"),
    onTermination: reader.oneOf("TULLE_ON_TERMINATION", ["ask", "keep", "remove"], local ? "keep" : "ask"),
    drainDeadlineMs: reader.seconds("TULLE_DRAIN_DEADLINE", DRAIN_DEADLINE_MS, MAX_DEADLINE_MS),
    leaveTimeoutMs: reader.seconds("TULLE_LEAVE_TIMEOUT", LEAVE_TIMEOUT_MS, MAX_DEADLINE_MS),
    installPlugin: reader.boolean("TULLE_INSTALL_CNI", !local),
    readinessPort: reader.port("TULLE_READINESS_PORT", READINESS_PORT),
    metricsPort: reader.port("TULLE_METRICS_PORT", METRICS_PORT),
    logLevel: reader.oneOf("LOG_LEVEL", ["debug", "info", "warn", "error"], "info"),
    logFormat: reader.oneOf("LOG_FORMAT", ["plain", "json"], "plain"),
  };
  if (reader.problems.length === 0) return config;
  throw new MeshError(`the configuration is not usable:\n${reader.problems.map((text) => `- ${text}`).join("\n")}`, {
    code: "INVALID_CONFIG",
    side: "internal",
  });
}

/** YAML, as the chart sets it. */
function readSelectors(reader: EnvironmentReader): readonly EnablementSelector[] {
  const text = reader.text("AMBIENT_ENABLEMENT_SELECTOR");
  if (text === undefined) return DEFAULT_ENABLEMENT;
  try {
    return readEnablement(parse(text));
  } catch (error) {
    reader.problem(`AMBIENT_ENABLEMENT_SELECTOR cannot be read: ${messageOf(error)}`);
    return DEFAULT_ENABLEMENT;
  }
}

function readExcluded(reader: EnvironmentReader): ReadonlySet<string> {
  try {
    return readExcludedNamespaces(reader.text("EXCLUDE_NAMESPACES"));
  } catch (error) {
    reader.problem(`EXCLUDE_NAMESPACES cannot be read: ${messageOf(error)}`);
    return new Set();
  }
}

/** One of each family. */
function readProbeIps(reader: EnvironmentReader): readonly string[] {
  return ["HOST_PROBE_SNAT_IP", "HOST_PROBE_SNAT_IPV6"].flatMap((name, index) => {
    const text = reader.text(name) ?? DEFAULT_PROBE_IPS[index] ?? "";
    const ip = canonicalIp(text);
    if (ip !== undefined && isIpv6(ip) === (index === 1)) return [ip];
    reader.problem(`${name} is "${text}", but must be an ${index === 1 ? "IPv6" : "IPv4"} address`);
    return [];
  });
}
