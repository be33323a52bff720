import type { KubeObject } from "../contract.ts";
import type { Condition, Labels, LabelSelector } from "./builtin.ts";

/** Istio's and the Gateway API's objects, with the fields that Tulle reads or writes. */

/** Policies' specs are read with care where they are converted: they decide who may do what. */
export interface AuthorizationPolicy extends KubeObject {
  readonly spec?: unknown;
  readonly status?: IstioStatus;
}

export interface PeerAuthentication extends KubeObject {
  readonly spec?: unknown;
  readonly status?: IstioStatus;
}

export interface RequestAuthentication extends KubeObject {
  readonly spec?: unknown;
  readonly status?: IstioStatus;
}

export interface IstioStatus {
  readonly observedGeneration?: number | string;
  readonly conditions?: readonly Condition[];
  readonly validationMessages?: readonly unknown[];
}

export interface ServiceEntry extends KubeObject {
  readonly spec?: {
    readonly hosts?: readonly string[];
    readonly addresses?: readonly string[];
    readonly ports?: readonly {
      readonly name?: string;
      readonly number: number;
      readonly targetPort?: number;
      readonly protocol?: string;
    }[];
    readonly location?: string;
    readonly resolution?: string;
    readonly endpoints?: readonly WorkloadEntrySpec[];
    readonly workloadSelector?: { readonly labels?: Labels };
    readonly exportTo?: readonly string[];
    readonly subjectAltNames?: readonly string[];
  };
  readonly status?: IstioStatus & {
    readonly addresses?: readonly { readonly value?: string; readonly host?: string }[];
  };
}

export interface WorkloadEntrySpec {
  readonly address?: string;
  readonly ports?: Readonly<Record<string, number>>;
  readonly labels?: Labels;
  readonly network?: string;
  readonly locality?: string;
  readonly weight?: number;
  readonly serviceAccount?: string;
}

export interface WorkloadEntry extends KubeObject {
  readonly spec?: WorkloadEntrySpec;
  readonly status?: IstioStatus;
}

export interface GatewayClass extends KubeObject {
  readonly spec?: { readonly controllerName?: string; readonly description?: string };
  readonly status?: { readonly conditions?: readonly Condition[] };
}

export interface Gateway extends KubeObject {
  readonly spec?: {
    readonly gatewayClassName?: string;
    readonly listeners?: readonly {
      readonly name?: string;
      readonly hostname?: string;
      readonly port?: number;
      readonly protocol?: string;
      readonly allowedRoutes?: {
        readonly namespaces?: { readonly from?: string; readonly selector?: LabelSelector };
        readonly kinds?: readonly { readonly group?: string; readonly kind?: string }[];
      };
    }[];
    readonly addresses?: readonly { readonly type?: string; readonly value?: string }[];
    readonly infrastructure?: { readonly labels?: Labels; readonly annotations?: Labels };
  };
  readonly status?: {
    readonly addresses?: readonly { readonly type?: string; readonly value?: string }[];
    readonly conditions?: readonly Condition[];
    readonly listeners?: readonly {
      readonly name?: string;
      readonly attachedRoutes?: number;
      readonly conditions?: readonly Condition[];
    }[];
  };
}
