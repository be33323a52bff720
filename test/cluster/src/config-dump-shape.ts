/** What tools read in a ztunnel's `/config_dump` (spec: l4-ztunnel §9.1): which keys are always there, which may be, and their values. */

/** Says what is wrong with a value; empty: nothing. `path` names it. */
type Shape = (value: unknown, path: string) => string[];

const text = (pattern: RegExp): Shape => {
  return (value, path) => (typeof value === "string" && pattern.test(value) ? [] : [wrong(path, value, `${pattern}`)]);
};
const oneOf = (...values: readonly unknown[]): Shape => {
  return (value, path) => (values.includes(value) ? [] : [wrong(path, value, values.join(" or "))]);
};
const typed = (type: "number" | "boolean" | "object"): Shape => {
  return (value, path) => (typeof value === type && value !== null ? [] : [wrong(path, value, `a ${type}`)]);
};
const list = (shape: Shape): Shape => {
  return (value, path) =>
    Array.isArray(value)
      ? value.flatMap((item, index) => shape(item, `${path}[${index}]`))
      : [wrong(path, value, "a list")];
};
const map = (key: RegExp, shape: Shape): Shape => {
  return (value, path) =>
    isObject(value)
      ? Object.entries(value).flatMap(([name, item]) => [
          ...(key.test(name) ? [] : [`${path} has the key ${name}, want ${key}`]),
          ...shape(item, `${path}.${name}`),
        ])
      : [wrong(path, value, "an object")];
};
/** Exactly these keys: those of `optional` may be missing. */
const object = (always: Readonly<Record<string, Shape>>, optional: Readonly<Record<string, Shape>> = {}): Shape => {
  return (value, path) => {
    if (!isObject(value)) return [wrong(path, value, "an object")];
    const missing = Object.keys(always).filter((key) => !(key in value));
    const found = Object.entries(value).flatMap(([key, item]) => {
      const shape = always[key] ?? optional[key];
      return shape === undefined ? [`${path} has ${key}, which nobody knows`] : shape(item, `${path}.${key}`);
    });
    return [...missing.map((key) => `${path} lacks ${key}`), ...found];
  };
};
const nullable = (shape: Shape): Shape => {
  return (value, path) => (value === null ? [] : shape(value, path));
};

const WORD = text(/./);
const PORT = typed("number");
const ADDRESS = text(/^(\d+\.\d+\.\d+\.\d+|[0-9a-f:]+)$/);
const SOCKET = text(/^(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+$/);
const NETWORK_ADDRESS = text(/^[\w-]*\/(\d+\.\d+\.\d+\.\d+|[0-9a-f:]+)$/);
const HOST_NAME = text(/^[\w.-]+$/);
const NAMESPACED_HOST = text(/^[\w-]+\/[\w.*-]+$/);
const UID = text(/^Kubernetes\/[\w.]*\/[A-Z]\w+\/[\w-]+\/[\w./-]+$/);
const HEALTH = oneOf("Healthy", "Unhealthy");
const PORTS = map(/^\d+$/, PORT);
const GATEWAY = object({ destination: text(/\//), hboneMtlsPort: PORT });
const TIME = text(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);

const WORKLOAD = object(
  {
    workloadIps: list(ADDRESS),
    protocol: oneOf("HBONE", "TCP"),
    networkMode: oneOf("Standard", "HostNetwork"),
    uid: UID,
    name: WORD,
    namespace: WORD,
    status: HEALTH,
    clusterId: oneOf("Kubernetes"),
    capacity: typed("number"),
  },
  {
    waypoint: GATEWAY,
    networkGateway: GATEWAY,
    trustDomain: oneOf("cluster.local"),
    serviceAccount: WORD,
    network: WORD,
    workloadName: WORD,
    workloadType: oneOf("deployment", "cronjob", "pod", "job"),
    canonicalName: WORD,
    canonicalRevision: WORD,
    hostname: WORD,
    node: text(/^n\d$/),
    nativeTunnel: oneOf(true),
    applicationTunnel: object({ protocol: oneOf("PROXY", "NONE"), port: nullable(PORT) }),
    authorizationPolicies: list(text(/^[\w-]+\/[\w.-]+$/)),
    locality: object({ region: typedText(), zone: typedText(), subzone: typedText() }),
    services: list(NAMESPACED_HOST),
  },
);

const SERVICE = object(
  {
    name: WORD,
    namespace: WORD,
    hostname: HOST_NAME,
    vips: list(NETWORK_ADDRESS),
    ports: PORTS,
    endpoints: map(/^Kubernetes\//, object({ workloadUid: UID, port: PORTS, status: HEALTH })),
    subjectAltNames: list(WORD),
    canonical: typed("boolean"),
    visibility: oneOf("Public", "Namespace"),
  },
  {
    cidrVips: list(object({ network: typedText(), cidr: WORD })),
    waypoint: GATEWAY,
    weightedWaypoints: list(object({ destination: GATEWAY, weight: typed("number") })),
    loadBalancer: object({
      routingPreferences: list(oneOf("Network", "Region", "Zone", "Subzone", "Node", "Cluster")),
      mode: oneOf("Standard", "Strict", "Failover", "Passthrough"),
      healthPolicy: oneOf("OnlyHealthy", "AllowAll"),
    }),
    ipFamilies: oneOf("IPv4", "IPv6", "Dual"),
  },
);

const STRING_MATCH: Shape = (value, path) => {
  const [kind = "", ...more] = isObject(value) ? Object.keys(value) : [];
  if (more.length > 0 || !["Exact", "Prefix", "Suffix", "Presence"].includes(kind))
    return [wrong(path, value, "a match")];
  return [];
};
const ACCOUNT = object({ namespace: WORD, serviceAccount: WORD });
const MATCHES = {
  namespaces: list(STRING_MATCH),
  principals: list(STRING_MATCH),
  serviceAccounts: list(ACCOUNT),
  sourceIps: list(text(/\//)),
  destinationIps: list(text(/\//)),
  destinationPorts: list(PORT),
};
const NOT_MATCHES = Object.fromEntries(
  Object.entries(MATCHES).map(([key, shape]) => [`not${key[0]?.toUpperCase()}${key.slice(1)}`, shape]),
);
const POLICY = object(
  {
    name: WORD,
    namespace: WORD,
    scope: oneOf("Global", "Namespace", "WorkloadSelector"),
    action: oneOf("Allow", "Deny"),
    dryRun: typed("boolean"),
  },
  { rules: list(list(list(object({}, { ...MATCHES, ...NOT_MATCHES })))) },
);

const PEM = object({
  pem: text(/^[A-Za-z0-9+/]+=*$/),
  serialNumber: text(/^\d+$/),
  validFrom: TIME,
  expirationTime: TIME,
});
const CERTIFICATE = object({
  identity: text(/^spiffe:\/\/cluster\.local\/ns\/[\w-]+\/sa\/[\w-]+$/),
  state: text(/^(Available|Initializing|Unavailable: .+)$/),
  certChain: list(PEM),
  rootCerts: list(PEM),
});

const CONNECTION = object({
  src: SOCKET,
  originalDst: nullable(WORD),
  actualDst: SOCKET,
  protocol: oneOf("HBONE", "TCP", "DOUBLEHBONE"),
});
const WORKLOAD_STATE = object(
  { state: oneOf("Up", "Pending", "Draining"), info: object({ name: WORD, namespace: WORD, serviceAccount: WORD }) },
  { connections: object({ inbound: list(CONNECTION), outbound: list(CONNECTION) }) },
);

const VERSION = object({
  version: WORD,
  gitRevision: WORD,
  rustVersion: WORD,
  buildProfile: WORD,
  buildStatus: WORD,
  istioVersion: WORD,
  cryptoProvider: WORD,
});
/** Of the settings those that tools and people look for; ztunnel has more. */
const CONFIG: Shape = (value, path) => {
  const duration = object({ secs: typed("number"), nanos: typed("number") });
  const wanted: Readonly<Record<string, Shape>> = {
    adminAddr: object({ Localhost: list(oneOf(true, 15000)) }),
    statsAddr: object({ SocketAddr: oneOf("[::]:15020") }),
    readinessAddr: object({ SocketAddr: oneOf("[::]:15021") }),
    inboundAddr: oneOf("[::]:15008"),
    inboundPlaintextAddr: oneOf("[::]:15006"),
    outboundAddr: oneOf("[::]:15001"),
    proxyMode: oneOf("Shared"),
    localNode: text(/^n\d$/),
    clusterId: oneOf("Kubernetes"),
    clusterDomain: oneOf("cluster.local"),
    secretTtl: duration,
    poolUnusedReleaseTimeout: duration,
    selfTerminationDeadline: duration,
    xdsAddress: oneOf("https://istiod.istio-system.svc:15012"),
    caAddress: oneOf("https://istiod.istio-system.svc:15012"),
    numWorkerThreads: typed("number"),
  };
  const settings = isObject(value) ? value : {};
  return Object.entries(wanted).flatMap(([key, shape]) => shape(settings[key], `${path}.${key}`));
};

const DUMP = object(
  {
    workloads: list(WORKLOAD),
    services: list(SERVICE),
    policies: list(POLICY),
    stagedServices: map(/\//, map(/^Kubernetes\//, typed("object"))),
    staticConfig: object({ workloads: list(WORKLOAD), services: list(SERVICE), policies: list(POLICY) }),
    version: VERSION,
    config: CONFIG,
    certificates: list(CERTIFICATE),
    workloadState: map(/^[0-9a-f-]{36}$/, WORKLOAD_STATE),
  },
  // Ours: which version each data thread has applied.
  { dataThreads: typed("object") },
);

/** What is not as it should be in a `/config_dump`, one line each. */
export function configDumpFaults(dump: unknown): string[] {
  return DUMP(dump, "config_dump");
}

function typedText(): Shape {
  return text(/^/);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wrong(path: string, value: unknown, want: string): string {
  return `${path} is ${JSON.stringify(value)?.slice(0, 100)}, want ${want}`;
}
