import type { LabelSelector } from "@tulle/base";
import type { Labels, ObjectMeta } from "./kubernetes.ts";

/** The parts of Istio's, the Gateway API's and discovery objects that the model is made of; every field may be missing. */

export interface KubeEndpointSlice {
  readonly metadata?: ObjectMeta | undefined;
  /** `IPv4`, `IPv6` or `FQDN`. */
  readonly addressType?: string | undefined;
  readonly endpoints?: readonly KubeSliceEndpoint[] | undefined;
  readonly ports?:
    | readonly {
        readonly name?: string | undefined;
        readonly port?: number | undefined;
        readonly protocol?: string | undefined;
      }[]
    | undefined;
}

export interface KubeSliceEndpoint {
  readonly addresses?: readonly string[] | undefined;
  readonly conditions?: { readonly ready?: boolean | undefined } | undefined;
  readonly targetRef?:
    | {
        readonly kind?: string | undefined;
        readonly namespace?: string | undefined;
        readonly name?: string | undefined;
        readonly uid?: string | undefined;
      }
    | undefined;
}

/** Spec of a WorkloadEntry, and one endpoint of a ServiceEntry. */
export interface EndpointSpec {
  /** An IP address or a hostname. */
  readonly address?: string | undefined;
  /** Port name → port. */
  readonly ports?: Readonly<Record<string, number>> | undefined;
  readonly labels?: Labels | undefined;
  readonly network?: string | undefined;
  /** `region/zone/subzone` */
  readonly locality?: string | undefined;
  readonly weight?: number | undefined;
  readonly serviceAccount?: string | undefined;
}

export interface KubeWorkloadEntry {
  readonly metadata?: ObjectMeta | undefined;
  readonly spec?: EndpointSpec | undefined;
}

export interface EntryPort {
  readonly number: number;
  readonly name?: string | undefined;
  readonly protocol?: string | undefined;
  readonly targetPort?: number | undefined;
}

export interface KubeServiceEntry {
  readonly metadata?: ObjectMeta | undefined;
  readonly spec?:
    | {
        readonly hosts?: readonly string[] | undefined;
        readonly addresses?: readonly string[] | undefined;
        readonly ports?: readonly EntryPort[] | undefined;
        /** `NONE` (default), `STATIC`, `DNS`, `DNS_ROUND_ROBIN` or `DYNAMIC_DNS`. */
        readonly resolution?: string | undefined;
        readonly endpoints?: readonly EndpointSpec[] | undefined;
        readonly workloadSelector?: { readonly labels?: Labels | undefined } | undefined;
        readonly subjectAltNames?: readonly string[] | undefined;
      }
    | undefined;
  readonly status?:
    | {
        /** Addresses that were allocated to hosts. */
        readonly addresses?:
          | readonly { readonly value?: string | undefined; readonly host?: string | undefined }[]
          | undefined;
      }
    | undefined;
}

export interface KubeListener {
  readonly name?: string | undefined;
  readonly port?: number | undefined;
  readonly protocol?: string | undefined;
  readonly allowedRoutes?:
    | {
        readonly namespaces?:
          | { readonly from?: string | undefined; readonly selector?: LabelSelector | undefined }
          | undefined;
      }
    | undefined;
}

export interface KubeGateway {
  readonly metadata?: ObjectMeta | undefined;
  readonly spec?:
    | {
        readonly gatewayClassName?: string | undefined;
        readonly listeners?: readonly KubeListener[] | undefined;
      }
    | undefined;
  readonly status?:
    | {
        readonly addresses?:
          | readonly { readonly type?: string | undefined; readonly value?: string | undefined }[]
          | undefined;
      }
    | undefined;
}

export interface KubeGatewayClass {
  readonly metadata?: ObjectMeta | undefined;
  readonly spec?: { readonly controllerName?: string | undefined } | undefined;
}
