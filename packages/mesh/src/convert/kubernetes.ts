import type { Labels } from "@tulle/base";

/**
 * The parts of Kubernetes and Istio objects that the model is made of. Objects of any client fit: more fields do not
 * matter, and every field may be missing.
 */

export interface ObjectMeta {
  readonly name?: string | undefined;
  readonly namespace?: string | undefined;
  readonly uid?: string | undefined;
  readonly generation?: number | undefined;
  readonly generateName?: string | undefined;
  readonly labels?: Labels | undefined;
  readonly annotations?: Labels | undefined;
  readonly creationTimestamp?: string | Date | undefined;
  readonly deletionTimestamp?: string | Date | undefined;
  readonly ownerReferences?:
    | readonly { readonly kind: string; readonly name: string; readonly controller?: boolean | undefined }[]
    | undefined;
}

export type { Labels };

/** Any object of the API. */
export interface KubeObjectLike {
  readonly metadata?: ObjectMeta | undefined;
  readonly spec?: unknown;
  readonly status?: unknown;
}

export interface KubeNamespace {
  readonly metadata?: ObjectMeta | undefined;
}

/** Only its labels matter: they are the locality of its pods. */
export interface KubeNode {
  readonly metadata?: ObjectMeta | undefined;
}

export interface KubeContainer {
  readonly restartPolicy?: string | undefined;
  readonly ports?:
    | readonly {
        readonly name?: string | undefined;
        readonly containerPort: number;
        readonly protocol?: string | undefined;
      }[]
    | undefined;
}

export interface KubePod {
  readonly metadata?: ObjectMeta | undefined;
  readonly spec?:
    | {
        readonly nodeName?: string | undefined;
        readonly hostNetwork?: boolean | undefined;
        readonly serviceAccountName?: string | undefined;
        readonly containers?: readonly KubeContainer[] | undefined;
        readonly initContainers?: readonly KubeContainer[] | undefined;
      }
    | undefined;
  readonly status?:
    | {
        readonly phase?: string | undefined;
        readonly podIP?: string | undefined;
        readonly podIPs?: readonly { readonly ip?: string | undefined }[] | undefined;
        readonly conditions?: readonly { readonly type: string; readonly status: string }[] | undefined;
      }
    | undefined;
}

export interface KubeServicePort {
  readonly name?: string | undefined;
  readonly port: number;
  readonly targetPort?: number | string | undefined;
  readonly protocol?: string | undefined;
  readonly appProtocol?: string | undefined;
}

export interface KubeService {
  readonly metadata?: ObjectMeta | undefined;
  readonly spec?:
    | {
        readonly type?: string | undefined;
        readonly clusterIP?: string | undefined;
        readonly clusterIPs?: readonly string[] | undefined;
        readonly ipFamilies?: readonly string[] | undefined;
        readonly selector?: Labels | undefined;
        readonly ports?: readonly KubeServicePort[] | undefined;
        readonly publishNotReadyAddresses?: boolean | undefined;
        readonly internalTrafficPolicy?: string | undefined;
        readonly trafficDistribution?: string | undefined;
      }
    | undefined;
}

/** AuthorizationPolicy or PeerAuthentication: the spec is read with care, for it decides who may do what. */
export interface KubePolicy {
  readonly metadata?: ObjectMeta | undefined;
  readonly spec?: unknown;
}

export function nameOf(object: { readonly metadata?: ObjectMeta | undefined }): string {
  return object.metadata?.name ?? "";
}

export function namespaceOf(object: { readonly metadata?: ObjectMeta | undefined }): string {
  return object.metadata?.namespace ?? "";
}

/** `namespace/name`. */
export function keyOf(object: { readonly metadata?: ObjectMeta | undefined }): string {
  return `${namespaceOf(object)}/${nameOf(object)}`;
}

export function labelOf(object: { readonly metadata?: ObjectMeta | undefined }, name: string): string | undefined {
  return object.metadata?.labels?.[name];
}

export function annotationOf(object: { readonly metadata?: ObjectMeta | undefined }, name: string): string | undefined {
  return object.metadata?.annotations?.[name];
}

/** Every label of the selector is there; an empty selector selects everything. */
export function selects(selector: Labels, labels: Labels | undefined): boolean {
  return Object.entries(selector).every(([name, value]) => labels?.[name] === value);
}

/** Booleans as Go reads them; anything else is undefined. */
export function parseGoBool(text: string | undefined): boolean | undefined {
  if (text === undefined) return undefined;
  if (["1", "t", "T", "TRUE", "true", "True"].includes(text)) return true;
  if (["0", "f", "F", "FALSE", "false", "False"].includes(text)) return false;
  return undefined;
}

export function byKey<T>(key: (item: T) => string): (a: T, b: T) => number {
  return (a, b) => {
    const [left, right] = [key(a), key(b)];
    if (left === right) return 0;
    return left < right ? -1 : 1;
  };
}
