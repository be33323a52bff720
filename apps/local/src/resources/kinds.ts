import type { KubeObject, ObjectMeta } from "@tulle/store";

/**
 * The Kubernetes objects that the local mesh plays itself, with the fields that it honours: what checks.ts lets pass. Policies
 * and entries are the control plane's.
 */

export interface Metadata extends ObjectMeta {
  readonly namespace: string;
}

export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
}

export interface ServicePort {
  readonly name?: string;
  readonly port: number;
  readonly targetPort?: number | string;
  readonly protocol?: "TCP";
  readonly appProtocol?: string;
}

export type IpFamily = "IPv4" | "IPv6";

export interface ServiceSpec {
  readonly type?: "ClusterIP" | "LoadBalancer";
  readonly clusterIP?: string;
  readonly clusterIPs?: readonly string[];
  readonly ipFamilies?: readonly IpFamily[];
  readonly ipFamilyPolicy?: "SingleStack" | "PreferDualStack" | "RequireDualStack";
  readonly selector?: Readonly<Record<string, string>>;
  readonly ports?: readonly ServicePort[];
  readonly publishNotReadyAddresses?: boolean;
}

export interface Service extends KubeObject {
  readonly metadata: Metadata;
  readonly spec: ServiceSpec;
}

export interface HttpGet {
  readonly path?: string;
  readonly port: number | string;
  readonly httpHeaders?: readonly { readonly name: string; readonly value: string }[];
}

export interface Probe {
  readonly httpGet?: HttpGet;
  readonly tcpSocket?: { readonly port: number | string };
  readonly initialDelaySeconds?: number;
  readonly periodSeconds?: number;
  readonly timeoutSeconds?: number;
  readonly successThreshold?: number;
  readonly failureThreshold?: number;
}

export interface EnvVar {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: { readonly fieldRef: { readonly fieldPath: string } };
}

export interface ContainerPort {
  readonly name?: string;
  readonly containerPort: number;
  readonly protocol?: "TCP";
}

export interface Container {
  readonly name: string;
  readonly image?: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly EnvVar[];
  readonly ports?: readonly ContainerPort[];
  readonly readinessProbe?: Probe;
}

export interface PodSpec {
  readonly serviceAccountName?: string;
  readonly nodeName?: string;
  readonly terminationGracePeriodSeconds?: number;
  readonly containers: readonly Container[];
}

export interface PodTemplate {
  readonly metadata: {
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: PodSpec;
}

export interface DeploymentStatus {
  readonly observedGeneration?: number;
  readonly replicas?: number;
  readonly updatedReplicas?: number;
  readonly readyReplicas?: number;
  readonly availableReplicas?: number;
  readonly unavailableReplicas?: number;
}

export interface Deployment extends KubeObject {
  readonly metadata: Metadata;
  readonly spec: { readonly replicas?: number; readonly selector: LabelSelector; readonly template: PodTemplate };
  readonly status?: DeploymentStatus;
}

/** `Deployment bookinfo/reviews-v1`. */
export function describe(object: { readonly kind: string; readonly metadata: ObjectMeta }): string {
  return `${object.kind} ${keyOf(object)}`;
}

/** `<namespace>/<name>`; the bare name of an object without a namespace. */
export function keyOf({ metadata }: { readonly metadata: ObjectMeta }): string {
  const { namespace, name } = metadata;
  return namespace === undefined ? name : `${namespace}/${name}`;
}
