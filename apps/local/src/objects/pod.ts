import type { Container, Metadata, PodSpec } from "../resources/kinds.ts";

/** A pod as the Kubernetes API would show it; the part that the mesh reads. Immutable: a new status is a new object. */
export interface Pod {
  readonly apiVersion: "v1";
  readonly kind: "Pod";
  readonly metadata: PodMetadata;
  readonly spec: PodSpec & { readonly nodeName: string; readonly serviceAccountName: string };
  readonly status: PodStatus;
}

export interface PodMetadata extends Metadata {
  readonly uid: string;
  readonly generateName?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly deletionTimestamp?: string;
  readonly ownerReferences?: readonly {
    readonly apiVersion: string;
    readonly kind: string;
    readonly name: string;
    readonly uid: string;
    readonly controller: boolean;
  }[];
}

export interface PodStatus {
  readonly phase: "Pending" | "Running";
  readonly podIP: string;
  readonly podIPs: readonly { readonly ip: string }[];
  readonly hostIP: string;
  readonly conditions: readonly PodCondition[];
  readonly containerStatuses: readonly ContainerStatus[];
}

export interface PodCondition {
  readonly type: string;
  readonly status: "True" | "False";
  readonly reason?: string;
  readonly message?: string;
}

export interface ContainerStatus {
  readonly name: string;
  readonly ready: boolean;
  readonly restartCount: number;
  /** The process on this machine while it runs. */
  readonly pid: number | undefined;
}

/** Set while traffic of the pod goes through the mesh (the contract that the control plane reads). */
export const REDIRECTION_ANNOTATION = "ambient.istio.io/redirection";
export const DATAPLANE_MODE_LABEL = "istio.io/dataplane-mode";

export function isReady(pod: Pod): boolean {
  return pod.status.conditions.some((condition) => condition.type === "Ready" && condition.status === "True");
}

export function isMeshed(pod: Pod): boolean {
  return pod.metadata.annotations[REDIRECTION_ANNOTATION] === "enabled";
}

export function podIps(pod: Pod): string[] {
  return pod.status.podIPs.map(({ ip }) => ip);
}

export function podIdentity(pod: Pod, trustDomain: string): string {
  return `spiffe://${trustDomain}/ns/${pod.metadata.namespace}/sa/${pod.spec.serviceAccountName}`;
}

/** The pod with its Ready condition and container states replaced. */
export function withStatus(pod: Pod, status: Partial<PodStatus>): Pod {
  return { ...pod, status: { ...pod.status, ...status } };
}

export function withAnnotation(pod: Pod, name: string, value: string | undefined): Pod {
  const { [name]: _old, ...others } = pod.metadata.annotations;
  const annotations = value === undefined ? others : { ...others, [name]: value };
  return { ...pod, metadata: { ...pod.metadata, annotations } };
}

/** A port of a container by number or name; undefined when no container has that name. */
export function resolvePort(containers: readonly Container[], port: number | string): number | undefined {
  if (typeof port === "number") return port;
  for (const container of containers) {
    for (const declared of container.ports ?? []) if (declared.name === port) return declared.containerPort;
  }
  return undefined;
}

/** Enrolled: the pod asks for it, or its namespace does and the pod does not opt out (spec: control-plane §1.1). */
export function wantsMesh(
  podLabels: Readonly<Record<string, string>>,
  namespaceLabels: Readonly<Record<string, string>> | undefined,
): boolean {
  const own = podLabels[DATAPLANE_MODE_LABEL];
  if (own === "ambient") return true;
  return own !== "none" && namespaceLabels?.[DATAPLANE_MODE_LABEL] === "ambient";
}
