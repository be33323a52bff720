import { VERSION } from "../version.ts";

/** What can be set at installation: paths as users of istioctl and of the charts know them, each with its type and default. */

export type Tree = { readonly [key: string]: TreeValue };
export type TreeValue = string | number | boolean | null | Tree | readonly TreeValue[];
export type StringMap = Readonly<Record<string, string>>;

interface FieldTypes {
  readonly text: string;
  readonly boolean: boolean;
  readonly integer: number;
  /** List of texts. */
  readonly texts: readonly string[];
  /** Text by name: labels, environment variables. */
  readonly map: StringMap;
  /** Part of a Kubernetes object, or of MeshConfig, handed on as it is. */
  readonly tree: Tree;
  /** List of parts of Kubernetes objects. */
  readonly trees: readonly Tree[];
}

export interface Field<K extends keyof FieldTypes = keyof FieldTypes> {
  readonly type: K;
  readonly fallback: FieldTypes[K];
  /** What else the value must be. */
  readonly oneOf?: readonly string[];
  /** `map` and `tree`: the only keys that may be set. */
  readonly keys?: readonly string[];
}

/** Values by their paths. */
export type InstallValues = {
  readonly [Path in keyof typeof FIELDS]: (typeof FIELDS)[Path] extends Field<infer K> ? FieldTypes[K] : never;
};
export type ValuePath = keyof InstallValues;

/** Fields of MeshConfig (spec: control-plane §1.5, and those that upstream's users set out of habit). */
const MESH_CONFIG_KEYS = [
  "accessLogEncoding",
  "accessLogFile",
  "accessLogFormat",
  "caCertificates",
  "certificates",
  "configSources",
  "connectTimeout",
  "defaultConfig",
  "defaultDestinationRuleExportTo",
  "defaultHttpRetryPolicy",
  "defaultProviders",
  "defaultServiceExportTo",
  "defaultVirtualServiceExportTo",
  "disableEnvoyListenerLog",
  "discoverySelectors",
  "dnsRefreshRate",
  "enableAutoMtls",
  "enableEnvoyAccessLogService",
  "enablePrometheusMerge",
  "enableTracing",
  "extensionProviders",
  "hboneIdleTimeout",
  "inboundClusterStatName",
  "inboundTrafficPolicy",
  "ingressClass",
  "ingressControllerMode",
  "ingressSelector",
  "ingressService",
  "localityLbSetting",
  "meshMTLS",
  "outboundClusterStatName",
  "outboundTrafficPolicy",
  "pathNormalization",
  "protocolDetectionTimeout",
  "proxyHttpPort",
  "proxyInboundListenPort",
  "proxyListenPort",
  "rootNamespace",
  "serviceEntryVisibility",
  "serviceScopeConfigs",
  "serviceSettings",
  "tcpKeepalive",
  "tlsDefaults",
  "trustDomain",
  "trustDomainAliases",
  "verifyCertificateAtClient",
] as const;

const RESOURCE_KEYS = ["requests", "limits", "claims"] as const;
const DEFAULT_GRACE_SECONDS = 30;
/** The node agent un-enrols the pods of its node one after the other when it is uninstalled. */
const AGENT_GRACE_SECONDS = 60;
/** What every part understands; ztunnel.logLevel may hold scopes as well. */
const LEVELS = ["debug", "info", "warn", "error"] as const;

export const FIELDS = {
  profile: { type: "text", fallback: "ambient", oneOf: ["ambient"] },
  hub: { type: "text", fallback: "docker.io/tulle" },
  tag: { type: "text", fallback: VERSION },
  meshConfig: { type: "tree", fallback: {}, keys: MESH_CONFIG_KEYS },

  "global.imagePullPolicy": { type: "text", fallback: "", oneOf: ["", "Always", "IfNotPresent", "Never"] },
  "global.imagePullSecrets": { type: "texts", fallback: [] },
  "global.logAsJson": { type: "boolean", fallback: false },
  "global.logging.level": { type: "text", fallback: "info", oneOf: LEVELS },
  "global.multiCluster.clusterName": { type: "text", fallback: "Kubernetes" },
  "global.network": { type: "text", fallback: "" },
  "global.platform": { type: "text", fallback: "", oneOf: ["", "k3d", "k3s", "microk8s", "minikube"] },
  "global.priorityClassName": { type: "text", fallback: "" },
  "global.proxy.clusterDomain": { type: "text", fallback: "cluster.local" },

  "pilot.affinity": { type: "tree", fallback: {} },
  "pilot.env": { type: "map", fallback: {} },
  "pilot.nodeSelector": { type: "map", fallback: {} },
  "pilot.podAnnotations": { type: "map", fallback: {} },
  "pilot.podLabels": { type: "map", fallback: {} },
  "pilot.resources": { type: "tree", fallback: { requests: { cpu: "100m", memory: "256Mi" } }, keys: RESOURCE_KEYS },
  "pilot.tolerations": { type: "trees", fallback: [] },
  "pilot.trustedZtunnelName": { type: "text", fallback: "ztunnel" },
  "pilot.trustedZtunnelNamespace": { type: "text", fallback: "" },

  "cni.ambient.dnsCapture": { type: "boolean", fallback: true },
  "cni.ambient.enablementSelectors": { type: "trees", fallback: [] },
  "cni.ambient.ipv6": { type: "boolean", fallback: true },
  "cni.cniBinDir": { type: "text", fallback: "" },
  "cni.cniConfDir": { type: "text", fallback: "" },
  "cni.cniConfFileName": { type: "text", fallback: "" },
  "cni.cniNetnsDir": { type: "text", fallback: "" },
  "cni.env": { type: "map", fallback: {} },
  "cni.excludeNamespaces": { type: "texts", fallback: ["kube-system"] },
  "cni.logging.level": { type: "text", fallback: "", oneOf: ["", ...LEVELS] },
  "cni.podAnnotations": { type: "map", fallback: {} },
  "cni.podLabels": { type: "map", fallback: {} },
  "cni.resources": { type: "tree", fallback: { requests: { cpu: "100m", memory: "100Mi" } }, keys: RESOURCE_KEYS },
  "cni.terminationGracePeriodSeconds": { type: "integer", fallback: AGENT_GRACE_SECONDS },

  "ztunnel.env": { type: "map", fallback: {} },
  "ztunnel.logAsJson": { type: "boolean", fallback: false },
  "ztunnel.logLevel": { type: "text", fallback: "" },
  "ztunnel.nodeSelector": { type: "map", fallback: {} },
  "ztunnel.podAnnotations": { type: "map", fallback: {} },
  "ztunnel.podLabels": { type: "map", fallback: {} },
  "ztunnel.resources": { type: "tree", fallback: { requests: { cpu: "200m", memory: "512Mi" } }, keys: RESOURCE_KEYS },
  "ztunnel.terminationGracePeriodSeconds": { type: "integer", fallback: DEFAULT_GRACE_SECONDS },
} as const satisfies Readonly<Record<string, Field>>;

export const VALUE_PATHS = Object.keys(FIELDS) as readonly ValuePath[];
