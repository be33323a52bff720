/**
 * The Kubernetes and Istio objects that the local mesh reads, with the fields that it honours. The names and shapes are
 * those of the Kubernetes API, so that the objects can be handed on as they are.
 */

export interface Metadata {
  readonly name: string;
  readonly namespace: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
}

export interface Namespace {
  readonly apiVersion: "v1";
  readonly kind: "Namespace";
  /** `namespace` is empty. */
  readonly metadata: Metadata;
}

export interface ServiceAccount {
  readonly apiVersion: "v1";
  readonly kind: "ServiceAccount";
  readonly metadata: Metadata;
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

export interface Service {
  readonly apiVersion: "v1";
  readonly kind: "Service";
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

export interface Deployment {
  readonly apiVersion: "apps/v1";
  readonly kind: "Deployment";
  readonly metadata: Metadata;
  readonly spec: { readonly replicas?: number; readonly selector: LabelSelector; readonly template: PodTemplate };
}

/** The contents are checked for their field names and kinds here and interpreted where policies are compiled. */
export interface AuthorizationPolicy {
  readonly apiVersion: string;
  readonly kind: "AuthorizationPolicy";
  readonly metadata: Metadata;
  readonly spec: Readonly<Record<string, unknown>>;
}

export interface PeerAuthentication {
  readonly apiVersion: string;
  readonly kind: "PeerAuthentication";
  readonly metadata: Metadata;
  readonly spec: Readonly<Record<string, unknown>>;
}

export type Resource = Namespace | ServiceAccount | Service | Deployment | AuthorizationPolicy | PeerAuthentication;
export type Kind = Resource["kind"];

/** `Deployment bookinfo/reviews-v1`. */
export function describe(resource: { readonly kind: string; readonly metadata: Metadata }): string {
  return `${resource.kind} ${keyOf(resource)}`;
}

/** `<namespace>/<name>`; the bare name of a namespace. */
export function keyOf(resource: { readonly metadata: Metadata }): string {
  const { namespace, name } = resource.metadata;
  return namespace === "" ? name : `${namespace}/${name}`;
}
