import { DEFAULT_TRUST_DOMAIN, formatIdentity, REDIRECTION_ANNOTATION, SYSTEM_NAMESPACE } from "@tulle/base";
import { decide, DEFAULT_ENABLEMENT, DEFAULT_EXCLUDED_NAMESPACES, type EnrolmentSettings } from "@tulle/base/enrolment";
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

/** As node agent and control plane decide, who are given no other settings here. */
const ENROLMENT: EnrolmentSettings = {
  selectors: DEFAULT_ENABLEMENT,
  excludeNamespaces: new Set(DEFAULT_EXCLUDED_NAMESPACES),
  systemNamespace: SYSTEM_NAMESPACE,
};

/** The pod is to be captured. */
export function wantsMesh(pod: Pod, namespace: KubeObject | undefined): boolean {
  return decide({ metadata: pod.metadata }, namespace, ENROLMENT).kind === "enrol";
}
