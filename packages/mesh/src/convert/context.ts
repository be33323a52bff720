import { DEFAULT_CLUSTER_ID, DEFAULT_TRUST_DOMAIN, type LabelSelector, SYSTEM_NAMESPACE } from "@tulle/base";
import type { ObjectMeta } from "./kubernetes.ts";

/** What does not come from objects but from the configuration of the mesh (MeshConfig, control-plane.md §1.5). */
export interface MeshSettings {
  readonly clusterId: string;
  /** Policies and entries that are labelled with another revision are another control plane's. Fixed for a process. */
  readonly revision: string;
  /** Unless the system namespace is labelled with another one. */
  readonly network: string;
  readonly trustDomain: string;
  /** Former or foreign names of the trust domain: principals of any of them are the same workload. */
  readonly trustDomainAliases: readonly string[];
  /** `cluster.local` */
  readonly clusterDomain: string;
  /** Policies in this namespace without selector hold for the whole mesh. */
  readonly rootNamespace: string;
  /** Where the mesh is installed; its label `topology.istio.io/network` names the network. */
  readonly systemNamespace: string;
  /** Namespaces that one of them selects are part of the mesh. Empty: all. */
  readonly discoverySelectors: readonly LabelSelector[];
  /** The first that says GLOBAL for a service wins. */
  readonly serviceScopeConfigs: readonly ServiceScopeConfig[];
  /** Default: every ServiceEntry is public, and none is told so. */
  readonly serviceEntryVisibility: ServiceEntryVisibility | undefined;
}

/** Default of a missing selector: everything. */
export interface ServiceScopeConfig {
  readonly namespaceSelector?: LabelSelector | undefined;
  readonly servicesSelector?: LabelSelector | undefined;
  readonly scope: "LOCAL" | "GLOBAL";
}

export type Visibility = "PUBLIC" | "NAMESPACE" | "NONE";

/** The first policy whose rules all select the entry's namespace decides, else the default. */
export interface ServiceEntryVisibility {
  readonly defaultVisibility: Visibility;
  readonly policies: readonly {
    readonly visibility: Visibility;
    /** None: everything. */
    readonly matchingRules: readonly { readonly namespaceSelector: LabelSelector }[];
  }[];
}

export const DEFAULT_MESH_SETTINGS: MeshSettings = {
  clusterId: DEFAULT_CLUSTER_ID,
  revision: "default",
  network: "",
  trustDomain: DEFAULT_TRUST_DOMAIN,
  trustDomainAliases: [],
  clusterDomain: "cluster.local",
  rootNamespace: SYSTEM_NAMESPACE,
  systemNamespace: SYSTEM_NAMESPACE,
  discoverySelectors: [],
  serviceScopeConfigs: [],
  serviceEntryVisibility: undefined,
};

/** Kinds of objects that the mesh is computed from. */
export type MeshObjectKind =
  | "Namespace"
  | "Node"
  | "Pod"
  | "Service"
  | "EndpointSlice"
  | "ServiceEntry"
  | "WorkloadEntry"
  | "Gateway"
  | "GatewayClass"
  | "AuthorizationPolicy"
  | "PeerAuthentication";

/** One entry of `status.conditions`. */
export interface Condition {
  readonly type:
    | "ZtunnelAccepted"
    | "WaypointAccepted"
    | "istio.io/WaypointBound"
    | "istio.io/WaypointMissing"
    | "istio.io/VisibilityApplied"
    /** Ours: a part of the object is not sent, because it belongs to another one or cannot be read. */
    | "ambient.tulle.dev/Accepted";
  readonly status: "True" | "False";
  /** Upper camel case, stable. */
  readonly reason: string;
  readonly message: string;
}

/** What became of an object: all conditions of one writer (control-plane.md §2.9). */
export interface ObjectStatus {
  readonly kind: MeshObjectKind;
  readonly namespace: string;
  readonly name: string;
  /** `metadata.generation` that this was computed from. */
  readonly generation: number | undefined;
  /** Field manager of the server-side apply: conditions that it wrote before and that are missing here go. */
  readonly manager: StatusManager;
  /** Sorted by type. Empty: there is nothing to say (any more). */
  readonly conditions: readonly Condition[];
}

/** Contracts of upstream but the last: Kubernetes' pods have no writer there. */
export type StatusManager =
  | "istio-ambient-service"
  | "istio-ambient-ztunnel-policy"
  | "istio-ambient-waypoint-policy"
  | "istio-ambient-workloadentry"
  | "tulle-ambient-pod";

/** A status of one condition. */
export function statusOf(
  kind: MeshObjectKind,
  object: { readonly metadata?: ObjectMeta | undefined },
  manager: StatusManager,
  conditions: readonly Condition[],
): ObjectStatus {
  const { namespace = "", name = "", generation } = object.metadata ?? {};
  return { kind, namespace, name, generation, manager, conditions };
}
