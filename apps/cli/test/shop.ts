import type { KubeObject } from "@tulle/store";
import { VERSION } from "../src/version.ts";

/** A small mesh to print: two nodes, a shop in it, and some things that are not in order. */

const INSTALLED = { "tulle.dev/installation": "istio-system", "app.kubernetes.io/version": VERSION };
const CREATED = "2026-03-01T08:00:00Z";
/** A throw-away certificate: its issuer and fingerprint are what -o wide shows. */
const PEM = `-----BEGIN CERTIFICATE-----
MIIBdzCCARygAwIBAgIDAL7vMAoGCCqGSM49BAMCMBgxFjAUBgNVBAoMDWNsdXN0
ZXIubG9jYWwwIBcNMjYxMTIxMTk0MTQyWhgPMjEyNjEwMjgxOTQxNDJaMBgxFjAU
BgNVBAoMDWNsdXN0ZXIubG9jYWwwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASS
wUHxsQED3epdDBV0J3H4/3ISu1LSzCQE86Y5C1r/8nu8ZMVifvSNlbwGCXSJQTyr
xd8c+LmsRPQ5IPGLeUa5o1MwUTAdBgNVHQ4EFgQUnTIetnKPHVkoRXhY/7UUMkpg
P7owHwYDVR0jBBgwFoAUnTIetnKPHVkoRXhY/7UUMkpgP7owDwYDVR0TAQH/BAUw
AwEB/zAKBggqhkjOPQQDAgNJADBGAiEAvg8iWR5+zX6/Y0h309CsaWwidDRCAenL
nsyo1DK1XD0CIQCNmZZtPNIpmA5HTQWUCx3GRZzDJfM0VC70jLJdyeFd4g==
-----END CERTIFICATE-----
`;
const CERTIFICATE = {
  pem: Buffer.from(PEM).toString("base64"),
  serialNumber: "48879",
  validFrom: "2026-03-01T08:00:00Z",
  expirationTime: "2096-03-02T08:00:00Z",
};
const ROOT = { serialNumber: "51966", validFrom: "2026-02-01T00:00:00Z", expirationTime: "2096-02-01T00:00:00Z" };

export interface Trouble {
  /** The node agent of n2 is not ready, and a pod there is not captured. */
  readonly agent?: boolean;
  /** A policy that is not in effect as written. */
  readonly policy?: boolean;
  /** A service and a pod whose waypoint is not ready, an entry that needs one, and an address that is somebody else's. */
  readonly waypoint?: boolean;
}

export function shopObjects({ agent = false, policy = false, waypoint = false }: Trouble = {}): KubeObject[] {
  const broken = {
    type: "ambient.tulle.dev/Captured",
    status: "False",
    reason: "RulesMissing",
    message: "the rules were flushed",
  };
  const unbound = {
    type: "istio.io/WaypointBound",
    status: "False",
    reason: "WaypointIsNotReady",
    message: 'waypoint "shop/gate" is not ready',
  };
  return [
    namespace("default", {}),
    namespace("shop", { "istio.io/dataplane-mode": "ambient" }),
    namespace("istio-system", INSTALLED),
    node("n1"),
    node("n2"),
    rollout("Deployment", "istiod", { app: "istiod" }, 1, 1),
    rollout("DaemonSet", "istio-cni-node", { "k8s-app": "istio-cni-node" }, agent ? 1 : 2, 2),
    rollout("DaemonSet", "ztunnel", { app: "ztunnel" }, 2, 2),
    pod("istio-system", "istiod-1", "n1", { labels: { app: "istiod" } }),
    pod("istio-system", "istio-cni-node-a", "n1", { labels: { "k8s-app": "istio-cni-node" } }),
    pod("istio-system", "istio-cni-node-b", "n2", { labels: { "k8s-app": "istio-cni-node" }, ready: !agent }),
    pod("istio-system", "ztunnel-a", "n1", { labels: { app: "ztunnel" } }),
    pod("istio-system", "ztunnel-b", "n2", { labels: { app: "ztunnel" } }),
    pod("shop", "cart", "n1", {
      annotations: { "ambient.istio.io/redirection": "enabled" },
      ip: "10.1.1.7",
      ...(waypoint && { conditions: [unbound] }),
    }),
    pod("shop", "till", "n2", {
      annotations: agent ? {} : { "ambient.istio.io/redirection": "enabled" },
      ip: "10.1.2.8",
      ...(agent && { conditions: [broken] }),
    }),
    ...["default", "shop", "istio-system"].map((name) => object("v1", "ConfigMap", "istio-ca-root-cert", name, {})),
    object("v1", "Service", "till", "shop", {
      spec: { clusterIP: "10.9.0.5", ports: [{ port: 80 }, { port: 53, protocol: "UDP" }] },
      // The second is a load balancer's own affair.
      ...(waypoint && { status: { conditions: [unbound, { type: "example/Provisioned", status: "False" }] } }),
    }),
    ...(waypoint ? unboundEntries() : []),
    object("security.istio.io/v1", "AuthorizationPolicy", "no-tills", "shop", {
      spec: { action: "DENY" },
      status: {
        conditions: [
          policy
            ? {
                type: "ZtunnelAccepted",
                status: "False",
                reason: "UnsupportedValue",
                message: "methods are for waypoints",
              }
            : { type: "ZtunnelAccepted", status: "True", reason: "Accepted", message: "" },
        ],
      },
    }),
  ];
}

function unboundEntries(): KubeObject[] {
  const entry = (kind: string, name: string, spec: object, conditions: readonly object[]) =>
    object("networking.istio.io/v1", kind, name, "shop", { spec, status: { conditions } });
  return [
    entry("ServiceEntry", "banks", { hosts: ["*.bank.example"] }, [
      {
        type: "istio.io/WaypointMissing",
        status: "True",
        reason: "NoWaypointForWildcardService",
        message: 'host "*.bank.example" is a wildcard, which a waypoint has to resolve, and none is bound',
      },
      { type: "istio.io/VisibilityApplied", status: "True", reason: "Public", message: "visible to every namespace" },
    ]),
    entry("WorkloadEntry", "vault", { address: "10.1.1.7" }, [
      {
        type: "ambient.tulle.dev/Accepted",
        status: "False",
        reason: "AddressTaken",
        message: "10.1.1.7 is the pod shop/cart",
      },
    ]),
  ];
}

/** What the ztunnel of a node answers to GET /config_dump. */
export function shopDump(node: "n1" | "n2"): object {
  const workload = (name: string, at: string, ip: string, more: object = {}) => ({
    uid: `Kubernetes//Pod/shop/${name}`,
    name,
    namespace: "shop",
    workloadIps: [ip],
    protocol: "HBONE",
    node: at,
    status: "Healthy",
    serviceAccount: name,
    network: "net1",
    clusterId: "Kubernetes",
    trustDomain: "cluster.local",
    ...more,
  });
  const own = node === "n1" ? "cart" : "till";
  return {
    workloads: [
      workload("till", "n2", "10.1.2.8", { authorizationPolicies: ["shop/no-tills"] }),
      workload("cart", "n1", "10.1.1.7", {
        waypoint: { destination: "shop/gate.shop.svc.cluster.local", hboneMtlsPort: 15008 },
      }),
      {
        uid: "Kubernetes/networking.istio.io/ServiceEntry/shop/bank",
        name: "bank",
        namespace: "shop",
        hostname: "bank.example",
        protocol: "TCP",
      },
    ],
    services: [
      {
        name: "till",
        namespace: "shop",
        hostname: "till.shop.svc.cluster.local",
        vips: ["/10.9.0.5", "/fd00::5"],
        ports: { "80": 8080, "443": 443 },
        subjectAltNames: ["spiffe://cluster.local/ns/shop/sa/till"],
        loadBalancer: { healthPolicy: "OnlyHealthy", mode: "Failover", routingPreferences: ["Zone"] },
        waypoint: { destination: "/10.9.0.99", hboneMtlsPort: 15008 },
        endpoints: {
          a: { workloadUid: "a", status: "Healthy" },
          b: { workloadUid: "b", status: "Unhealthy" },
        },
      },
      { name: "gate", namespace: "shop", hostname: "gate.shop.svc.cluster.local", vips: ["/10.9.0.9"], endpoints: {} },
    ],
    policies: [
      {
        name: "no-tills",
        namespace: "shop",
        scope: "WorkloadSelector",
        action: "Deny",
        dryRun: false,
        rules: [
          [
            [{ principals: [{ Exact: "cluster.local/ns/shop/sa/cart" }, { Prefix: "corp.example/" }] }],
            [{ destinationPorts: [80, 443] }, { notSourceIps: ["10.1.0.0/16"] }],
          ],
          [[{ namespaces: [{ Suffix: "-test" }], serviceAccounts: [{ namespace: "ci", name: "robot" }] }]],
        ],
      },
    ],
    certificates: [
      {
        identity: `spiffe://cluster.local/ns/shop/sa/${own}`,
        state: "Available",
        certChain: [CERTIFICATE],
        rootCerts: [ROOT],
      },
      {
        identity: "spiffe://cluster.local/ns/shop/sa/late",
        state: { Unavailable: "no answer" },
        certChain: [],
        rootCerts: [],
      },
    ],
    workloadState: {
      [`uid-${own}`]: {
        state: "Up",
        connections:
          node === "n1"
            ? {
                inbound: [],
                outbound: [
                  { src: "10.1.1.7:40000", originalDst: "10.9.0.5:80", actualDst: "10.1.2.8:15008", protocol: "HBONE" },
                ],
              }
            : {
                inbound: [{ src: "10.1.1.7:51000", originalDst: null, actualDst: "10.1.2.8:80", protocol: "HBONE" }],
                outbound: [
                  { src: "10.1.2.8:40001", originalDst: "192.0.2.1:443", actualDst: "192.0.2.1:443", protocol: "TCP" },
                ],
              },
        info: { name: own, namespace: "shop", serviceAccount: own },
      },
    },
    version: { version: VERSION },
    config: {},
  };
}

function object(
  apiVersion: string,
  kind: string,
  name: string,
  namespace: string | undefined,
  rest: object,
): KubeObject {
  const metadata = { name, ...(namespace !== undefined && { namespace }), creationTimestamp: CREATED };
  return { apiVersion, kind, metadata, ...rest };
}

function namespace(name: string, labels: Readonly<Record<string, string>>): KubeObject {
  const made = object("v1", "Namespace", name, undefined, {});
  return { ...made, metadata: { ...made.metadata, labels } };
}

function node(name: string): KubeObject {
  const nodeInfo = {
    kernelVersion: "6.12.1",
    architecture: "amd64",
    osImage: "Debian GNU/Linux 13 (trixie)",
    containerRuntimeVersion: "containerd://2.1.4",
  };
  return object("v1", "Node", name, undefined, {
    status: { nodeInfo, conditions: [{ type: "Ready", status: "True" }] },
  });
}

function rollout(
  kind: "Deployment" | "DaemonSet",
  name: string,
  labels: Readonly<Record<string, string>>,
  ready: number,
  wanted: number,
): KubeObject {
  const status =
    kind === "Deployment"
      ? { observedGeneration: 1, replicas: wanted, updatedReplicas: wanted, readyReplicas: ready }
      : {
          observedGeneration: 1,
          desiredNumberScheduled: wanted,
          updatedNumberScheduled: wanted,
          numberReady: ready,
          numberUnavailable: wanted - ready,
        };
  const made = object("apps/v1", kind, name, "istio-system", { spec: { replicas: wanted }, status });
  return { ...made, metadata: { ...made.metadata, generation: 1, labels: { ...labels, ...INSTALLED } } };
}

function pod(
  namespace: string,
  name: string,
  nodeName: string,
  options: {
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly ready?: boolean;
    readonly ip?: string;
    readonly conditions?: readonly object[];
  },
): KubeObject {
  const { labels = {}, annotations = {}, ready = true, ip, conditions = [] } = options;
  const made = object("v1", "Pod", name, namespace, {
    spec: { nodeName, containers: [{ name: "c" }] },
    status: {
      phase: "Running",
      podIP: ip,
      containerStatuses: [{ name: "c", ready }],
      conditions: [{ type: "Ready", status: ready ? "True" : "False" }, ...conditions],
    },
  });
  return { ...made, metadata: { ...made.metadata, labels, annotations } };
}
