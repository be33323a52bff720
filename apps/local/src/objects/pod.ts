import { DATAPLANE_MODE_LABEL, DEFAULT_TRUST_DOMAIN, formatIdentity, REDIRECTION_ANNOTATION } from "@tulle/base";
import { type Condition, type KubeObject, type OwnerReference, POD, type ResourceKind } from "@tulle/store";
import type { Container, Metadata, PodSpec } from "../resources/kinds.ts";

/** A pod as the Kubernetes API would show it. Who changes it writes a new one. */
export interface Pod extends KubeObject {
  readonly metadata: PodMetadata;
  readonly spec: PodSpec & { readonly nodeName: string; readonly serviceAccountName: string };
  readonly status?: PodStatus;
}

export interface PodMetadata extends Metadata {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ownerReferences?: readonly OwnerReference[];
}

export interface PodStatus {
  readonly phase: "Pending" | "Running";
  /** Missing while the pod has no network. */
  readonly podIP?: string;
  readonly podIPs?: readonly { readonly ip: string }[];
  readonly hostIP?: string;
  readonly startTime?: string;
  readonly conditions?: readonly Condition[];
  readonly containerStatuses?: readonly ContainerStatus[];
}

export interface ContainerStatus {
  readonly name: string;
  readonly ready: boolean;
  readonly restartCount: number;
  /** `process://PID` while it runs. */
  readonly containerID?: string;
}

export const PODS = POD as ResourceKind<Pod>;

/** Addresses that the scheduler has chosen, `v4,v6`; a pod's status has them once its network is there. */
export const ADDRESSES_ANNOTATION = "local.tulle.dev/addresses";
const CONTAINER_ID = "process://";

export function isReady(pod: Pod): boolean {
  return pod.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
}

export function readyReason(pod: Pod): string | undefined {
  return pod.status?.conditions?.find(({ type }) => type === "Ready")?.message;
}

/** Traffic of the pod goes through the mesh. */
export function isMeshed(pod: Pod): boolean {
  return pod.metadata.annotations?.[REDIRECTION_ANNOTATION] === "enabled";
}

export function podIps(pod: Pod): string[] {
  return (pod.status?.podIPs ?? []).map(({ ip }) => ip);
}

export function podIdentity({ metadata, spec }: Pod): string {
  return formatIdentity({
    trustDomain: DEFAULT_TRUST_DOMAIN,
    namespace: metadata.namespace,
    serviceAccount: spec.serviceAccountName,
  });
}

export function containerId(pid: number | undefined): string | undefined {
  return pid === undefined ? undefined : `${CONTAINER_ID}${pid}`;
}

/** The process of a container on this machine. */
export function pidOf({ containerID }: ContainerStatus): number | undefined {
  return containerID?.startsWith(CONTAINER_ID) ? Number(containerID.slice(CONTAINER_ID.length)) : undefined;
}

/** A port of a container by number or name; undefined when no container has that name. */
export function resolvePort(containers: readonly Container[], port: number | string): number | undefined {
  if (typeof port === "number") return port;
  for (const container of containers) {
    for (const declared of container.ports ?? []) if (declared.name === port) return declared.containerPort;
  }
  return undefined;
}

/** Asked into the mesh: by the pod, or by its namespace and the pod does not opt out (spec: control-plane §1.1). */
export function wantsMesh(
  podLabels: Readonly<Record<string, string>>,
  namespaceLabels: Readonly<Record<string, string>> | undefined,
): boolean {
  const own = podLabels[DATAPLANE_MODE_LABEL];
  if (own === "ambient") return true;
  return own !== "none" && namespaceLabels?.[DATAPLANE_MODE_LABEL] === "ambient";
}
