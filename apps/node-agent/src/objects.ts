import type { KubeObject, ResourceKind } from "@tulle/store";

/** The parts of Kubernetes objects that the node agent reads. Every field may be missing. */

export interface ProbeHandler {
  readonly httpGet?: { readonly port?: number | string; readonly host?: string };
  readonly tcpSocket?: { readonly port?: number | string; readonly host?: string };
  readonly grpc?: { readonly port?: number };
}

export interface Container {
  readonly name?: string;
  /** `Always` makes an init container a sidecar. */
  readonly restartPolicy?: string;
  readonly ports?: readonly { readonly name?: string; readonly containerPort: number; readonly protocol?: string }[];
  readonly startupProbe?: ProbeHandler;
  readonly readinessProbe?: ProbeHandler;
  readonly livenessProbe?: ProbeHandler;
  readonly lifecycle?: { readonly postStart?: ProbeHandler; readonly preStop?: ProbeHandler };
}

export interface PodCondition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
  readonly lastTransitionTime?: string;
}

export interface Pod extends KubeObject {
  readonly spec?: {
    readonly nodeName?: string;
    readonly hostNetwork?: boolean;
    readonly serviceAccountName?: string;
    readonly containers?: readonly Container[];
    readonly initContainers?: readonly Container[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip?: string }[];
    readonly conditions?: readonly PodCondition[];
  };
}

export const PODS: ResourceKind<Pod> = {
  group: "",
  version: "v1",
  kind: "Pod",
  plural: "pods",
  namespaced: true,
};

export const NAMESPACES: ResourceKind = {
  group: "",
  version: "v1",
  kind: "Namespace",
  plural: "namespaces",
  namespaced: false,
};

/** Of a node selector term. */
export interface NodeRequirement {
  readonly key: string;
  readonly operator: string;
  readonly values?: readonly string[];
}

export interface DaemonSet extends KubeObject {
  readonly spec?: {
    readonly template?: {
      readonly spec?: {
        readonly nodeSelector?: Readonly<Record<string, string>>;
        readonly affinity?: {
          readonly nodeAffinity?: {
            readonly requiredDuringSchedulingIgnoredDuringExecution?: {
              /** Any of them; all requirements of one. */
              readonly nodeSelectorTerms?: readonly {
                readonly matchExpressions?: readonly NodeRequirement[];
                readonly matchFields?: readonly NodeRequirement[];
              }[];
            };
          };
        };
      };
    };
  };
}

export const DAEMON_SETS: ResourceKind<DaemonSet> = {
  group: "apps",
  version: "v1",
  kind: "DaemonSet",
  plural: "daemonsets",
  namespaced: true,
};

export const NODES: ResourceKind = {
  group: "",
  version: "v1",
  kind: "Node",
  plural: "nodes",
  namespaced: false,
};

export const PEER_AUTHENTICATIONS: ResourceKind = {
  group: "security.istio.io",
  version: "v1",
  kind: "PeerAuthentication",
  plural: "peerauthentications",
  namespaced: true,
};

export function uidOf(pod: KubeObject): string {
  return pod.metadata.uid ?? "";
}

/** `namespace/name`. */
export function nameOf(pod: KubeObject): string {
  return `${pod.metadata.namespace ?? ""}/${pod.metadata.name}`;
}

export function annotationOf(object: KubeObject, key: string): string | undefined {
  return object.metadata.annotations?.[key];
}

/** As the kubelet reports them; empty before the pod has a network. */
export function ipsOf(pod: Pod): readonly string[] {
  const many = (pod.status?.podIPs ?? []).flatMap(({ ip }) => (ip === undefined || ip === "" ? [] : [ip]));
  const first = pod.status?.podIP;
  return many.length > 0 || first === undefined || first === "" ? many : [first];
}

/** Nothing of it runs any more. */
export function isFinished(pod: Pod): boolean {
  return pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
}

/** Which of two states of an object is the later one: resource versions are numbers that grow; otherwise the second. */
export function newerOf<T extends KubeObject>(known: T, other: T): T {
  const [a, b] = [known.metadata.resourceVersion ?? "", other.metadata.resourceVersion ?? ""];
  if (!/^\d+$/.test(a) || !/^\d+$/.test(b)) return other;
  return BigInt(a) > BigInt(b) ? known : other;
}

/** Booleans as Go's ParseBool reads them; anything else is undefined, and ignored by whoever asks. */
export function parseGoBool(text: string | undefined): boolean | undefined {
  if (text === undefined) return undefined;
  if (["1", "t", "T", "TRUE", "true", "True"].includes(text)) return true;
  return ["0", "f", "F", "FALSE", "false", "False"].includes(text) ? false : undefined;
}
