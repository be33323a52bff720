import { DEFAULT_CLUSTER_ID, DEFAULT_TRUST_DOMAIN, INBOUND_HBONE_PORT, SYSTEM_NAMESPACE } from "@tulle/base";
import type { GatewayAddress } from "../model.ts";
import { type KubeNamespace, type Labels, labelOf, namespaceOf, type ObjectMeta } from "./kubernetes.ts";

/** What does not come from objects but from the configuration of the mesh (MeshConfig, control-plane.md §1.5). */
export interface MeshSettings {
  readonly clusterId: string;
  /** Unless the system namespace is labelled with another one. */
  readonly network: string;
  readonly trustDomain: string;
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

/** As Kubernetes has it: everything in it must hold; empty selects everything. */
export interface LabelSelector {
  readonly matchLabels?: Labels | undefined;
  readonly matchExpressions?: readonly LabelExpression[] | undefined;
}

export interface LabelExpression {
  readonly key: string;
  /** `In`, `NotIn`, `Exists`, `DoesNotExist`; another selects nothing. */
  readonly operator: string;
  readonly values?: readonly string[] | undefined;
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
  network: "",
  trustDomain: DEFAULT_TRUST_DOMAIN,
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
    | "istio.io/WaypointBound"
    | "istio.io/WaypointMissing"
    | "istio.io/VisibilityApplied"
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

export interface WaypointReference {
  /** `namespace/name` of the Gateway. */
  readonly key: string;
  readonly address: GatewayAddress;
  /** No such waypoint is known: the address is one that nobody can find, so that traffic is refused. */
  readonly missing: boolean;
}

const USE_WAYPOINT = "istio.io/use-waypoint";
const USE_WAYPOINT_NAMESPACE = "istio.io/use-waypoint-namespace";
/** The reserved name that opts out. */
const NO_WAYPOINT = "none";

/**
 * The waypoint that an object's label names, else (`inherit`) its namespace's. A label that resolves to nothing becomes
 * an address that no proxy can find: traffic is refused rather than let past the policies of a waypoint.
 */
export function waypointFor(
  object: { readonly metadata?: ObjectMeta | undefined },
  namespace: KubeNamespace | undefined,
  inherit: boolean,
  settings: MeshSettings,
): WaypointReference | undefined {
  const own = labelOf(object, USE_WAYPOINT);
  const source = own === undefined && inherit ? namespace : object;
  const name = source && labelOf(source, USE_WAYPOINT);
  if (source === undefined || name === undefined || name === "" || name === NO_WAYPOINT) return undefined;
  const home = labelOf(source, USE_WAYPOINT_NAMESPACE) ?? namespaceOf(object);
  const key = `${home}/${name}`;
  const hostname = `${name}.${home}.svc.${settings.clusterDomain}`;
  const destination = { kind: "hostname", namespace: home, hostname } as const;
  return { key, address: { destination, hboneMtlsPort: INBOUND_HBONE_PORT }, missing: true };
}

export function waypointCondition(waypoint: WaypointReference): Condition {
  const type = "istio.io/WaypointBound";
  return waypoint.missing
    ? { type, status: "False", reason: "WaypointIsNotReady", message: `waypoint "${waypoint.key}" is not ready` }
    : {
        type,
        status: "True",
        reason: "WaypointAccepted",
        message: `Successfully attached to waypoint ${waypoint.key}`,
      };
}
