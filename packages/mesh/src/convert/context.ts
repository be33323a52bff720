import { INBOUND_HBONE_PORT } from "@tulle/base";
import type { GatewayAddress } from "../model.ts";
import { type KubeNamespace, labelOf, namespaceOf, type ObjectMeta } from "./kubernetes.ts";

/** What does not come from objects but from the configuration of the mesh. */
export interface MeshSettings {
  readonly clusterId: string;
  readonly network: string;
  readonly trustDomain: string;
  /** `cluster.local` */
  readonly clusterDomain: string;
  /** Policies in this namespace without selector hold for the whole mesh. */
  readonly rootNamespace: string;
  /** Waypoints that have an address: `namespace/name` of the Gateway → where it is. */
  readonly waypoints: ReadonlyMap<string, GatewayAddress>;
}

export const DEFAULT_MESH_SETTINGS: MeshSettings = {
  clusterId: "Kubernetes",
  network: "",
  trustDomain: "cluster.local",
  clusterDomain: "cluster.local",
  rootNamespace: "istio-system",
  waypoints: new Map(),
};

/** What happened to an object, as a status condition (control-plane.md §2.9). */
export interface ObjectStatus {
  readonly kind: "AuthorizationPolicy" | "PeerAuthentication" | "Service" | "Pod";
  readonly namespace: string;
  readonly name: string;
  readonly type: "ZtunnelAccepted" | "istio.io/WaypointBound";
  readonly status: "True" | "False";
  readonly reason: "Accepted" | "UnsupportedValue" | "Invalid" | "WaypointIsNotReady" | "WaypointAccepted";
  readonly message: string;
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
  const known = settings.waypoints.get(key);
  if (known !== undefined) return { key, address: known, missing: false };
  const hostname = `${name}.${home}.svc.${settings.clusterDomain}`;
  const destination = { kind: "hostname", namespace: home, hostname } as const;
  return { key, address: { destination, hboneMtlsPort: INBOUND_HBONE_PORT }, missing: true };
}

export function waypointStatus(
  kind: "Service" | "Pod",
  namespace: string,
  name: string,
  waypoint: WaypointReference,
): ObjectStatus {
  const about = { kind, namespace, name, type: "istio.io/WaypointBound" } as const;
  return waypoint.missing
    ? { ...about, status: "False", reason: "WaypointIsNotReady", message: `waypoint "${waypoint.key}" is not ready` }
    : {
        ...about,
        status: "True",
        reason: "WaypointAccepted",
        message: `Successfully attached to waypoint ${waypoint.key}`,
      };
}
