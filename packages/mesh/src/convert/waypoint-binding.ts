import { INBOUND_HBONE_PORT, WAYPOINT_OPTIONAL_ANNOTATION } from "@tulle/base";
import type { GatewayAddress } from "../model.ts";
import type { Condition } from "./context.ts";
import { annotationOf, type KubeNamespace, labelOf, namespaceOf, type ObjectMeta, parseGoBool } from "./kubernetes.ts";
import { namespaceLabels } from "./label-selector.ts";
import { allows, handles, type Waypoint, type WaypointLookup } from "./waypoint.ts";

/** What names a waypoint, and where it is. */
export interface WaypointUser {
  readonly object: { readonly metadata?: ObjectMeta | undefined };
  readonly namespace: KubeNamespace | undefined;
  readonly traffic: "service" | "workload";
  readonly waypoints: WaypointLookup;
  /** A ServiceEntry that only its own namespace sees: a waypoint elsewhere would show it to others. Default: false. */
  readonly private?: boolean;
}

export interface WaypointProblem {
  readonly reason: string;
  readonly message: string;
}

/** What became of a reference to a waypoint. */
export interface WaypointBinding {
  /** `namespace/name` of the Gateway. */
  readonly key: string;
  /** What proxies are told: the waypoint, or one that none of them finds; undefined: they go without. */
  readonly address: GatewayAddress | undefined;
  /** undefined: bound. */
  readonly problem: WaypointProblem | undefined;
  /** The namespace's label, not the object's own. */
  readonly inherited: boolean;
}

export const WAYPOINT_BOUND = "istio.io/WaypointBound";
const USE_WAYPOINT = "istio.io/use-waypoint";
const USE_WAYPOINT_NAMESPACE = "istio.io/use-waypoint-namespace";
/** The reserved name that opts out. */
export const NO_WAYPOINT = "none";
const MANAGED = "gateway.istio.io/managed";
/** Pods and Services of waypoints and of gateways between networks: nothing is put before them. */
const MANAGED_GATEWAYS: ReadonlySet<string> = new Set(["istio.io-mesh-controller", "istio.io-eastwest-controller"]);
const GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name";
/** RFC 2606: no service can be called so by accident. */
const UNFINDABLE_DOMAIN = "waypoint.invalid";

/**
 * The waypoint that the object's label names, else its namespace's (control-plane.md §2.6). One that cannot be used is
 * replaced by an address that no proxy finds, so that traffic is refused rather than let past the waypoint's policies,
 * unless an annotation of the object or its namespace says that the waypoint is optional. undefined: none is asked for.
 */
export function bindWaypoint(user: WaypointUser): WaypointBinding | undefined {
  const { object, namespace, waypoints, traffic } = user;
  if (MANAGED_GATEWAYS.has(labelOf(object, MANAGED) ?? "")) return undefined;
  const home = namespaceOf(object);
  const own = reference(object, USE_WAYPOINT, USE_WAYPOINT_NAMESPACE, home);
  const inherited = own === undefined;
  const key = own ?? (namespace && reference(namespace, USE_WAYPOINT, USE_WAYPOINT_NAMESPACE, home));
  if (key === undefined || key === NO_WAYPOINT) return undefined;
  const gateway = labelOf(object, GATEWAY_NAME);
  // A waypoint's own pods and Service are not behind it, whoever made them; nor is any other waypoint's pod.
  if (
    gateway !== undefined &&
    (`${home}/${gateway}` === key || (traffic === "workload" && waypoints(`${home}/${gateway}`)))
  ) {
    return undefined;
  }
  const waypoint = waypoints(key);
  // A namespace's waypoint that is for the other kind of traffic means nothing to this kind.
  if (inherited && waypoint !== undefined && !handles(waypoint, traffic)) {
    if (traffic === "workload") return undefined;
    return { key, address: undefined, problem: unsupported(key, traffic), inherited };
  }
  const problem = problemOf(user, key, waypoint);
  if (problem === undefined) return { key, address: waypoint?.address, problem, inherited };
  return { key, address: isOptional(object, namespace) ? undefined : unfindable(key), problem, inherited };
}

/** Why the object may not use the waypoint; undefined: it may. */
export function problemOf(
  user: WaypointUser,
  key: string,
  waypoint: Waypoint | undefined,
): WaypointProblem | undefined {
  const home = namespaceOf(user.object);
  if (user.private === true && !key.startsWith(`${home}/`)) {
    const message = `visible in its namespace only, so the waypoint "${key}" of another namespace cannot be used`;
    return { reason: "CrossNamespaceWaypointForbidden", message };
  }
  if (waypoint?.address === undefined) {
    return { reason: "WaypointIsNotReady", message: `waypoint "${key}" is not ready` };
  }
  if (!allows(waypoint, home, namespaceLabels(home, user.namespace))) {
    const message = `not permitted to attach to waypoint "${key}" (missing allowedRoutes?)`;
    return { reason: "AttachmentDenied", message };
  }
  return handles(waypoint, user.traffic) ? undefined : unsupported(key, user.traffic);
}

/** The condition that tells of a binding; `detail` is appended when it holds. */
export function boundCondition(binding: WaypointBinding, detail = ""): Condition {
  const { key, problem, address } = binding;
  if (problem === undefined) {
    const message = `Successfully attached to waypoint ${key}${detail}`;
    return { type: WAYPOINT_BOUND, status: "True", reason: "WaypointAccepted", message };
  }
  const consequence =
    address === undefined
      ? "Traffic goes without a waypoint"
      : `Traffic is refused until this is solved; annotation ${WAYPOINT_OPTIONAL_ANNOTATION}=true lets it pass without`;
  return {
    type: WAYPOINT_BOUND,
    status: "False",
    reason: problem.reason,
    message: `${problem.message}. ${consequence}`,
  };
}

/** `namespace/name` that labels name, `none`, or undefined when they name nothing. */
export function reference(
  object: { readonly metadata?: ObjectMeta | undefined },
  nameLabel: string,
  namespaceLabel: string,
  home: string,
): string | undefined {
  const name = labelOf(object, nameLabel) ?? "";
  if (name === "") return undefined;
  return name === NO_WAYPOINT ? NO_WAYPOINT : `${labelOf(object, namespaceLabel) || home}/${name}`;
}

function unsupported(key: string, traffic: string): WaypointProblem {
  const message = `attempting to bind to traffic type "${traffic}" which the waypoint "${key}" does not support`;
  return { reason: "UnsupportedTrafficType", message };
}

function isOptional(object: WaypointUser["object"], namespace: KubeNamespace | undefined): boolean {
  const own = parseGoBool(annotationOf(object, WAYPOINT_OPTIONAL_ANNOTATION));
  return own ?? parseGoBool(namespace && annotationOf(namespace, WAYPOINT_OPTIONAL_ANNOTATION)) ?? false;
}

function unfindable(key: string): GatewayAddress {
  const [namespace = "", name = ""] = key.split("/");
  const hostname = `${name}.${namespace}.${UNFINDABLE_DOMAIN}`;
  return { destination: { kind: "hostname", namespace, hostname }, hboneMtlsPort: INBOUND_HBONE_PORT };
}
