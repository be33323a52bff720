import type { GatewayAddress, WeightedWaypoint } from "../model.ts";
import type { Condition } from "./context.ts";
import { annotationOf, labelOf, namespaceOf, parseGoBool } from "./kubernetes.ts";
import {
  bindWaypoint,
  boundCondition,
  NO_WAYPOINT,
  problemOf,
  reference,
  type WaypointBinding,
  type WaypointUser,
} from "./waypoint-binding.ts";

/** Everything about waypoints in a service. */
export interface ServiceWaypoints {
  readonly waypoint: GatewayAddress | undefined;
  readonly weightedWaypoints: readonly WeightedWaypoint[];
  readonly ingressUseWaypoint: boolean;
  readonly condition: Condition | undefined;
  /** A waypoint takes the service's traffic. */
  readonly bound: boolean;
}

const CANARY = "istio.io/use-waypoint-canary";
const CANARY_NAMESPACE = "istio.io/use-waypoint-canary-namespace";
const CANARY_WEIGHT = "istio.io/use-waypoint-canary-weight";
const INGRESS_USE_WAYPOINT = "istio.io/ingress-use-waypoint";
const ALL_PERCENT = 100;

/** A Service's or ServiceEntry's waypoint, with its canary (control-plane.md §2.6, §2.9). */
export function serviceWaypoints(user: Omit<WaypointUser, "traffic">): ServiceWaypoints {
  const service: WaypointUser = { ...user, traffic: "service" };
  const binding = bindWaypoint(service);
  if (binding === undefined) {
    return {
      waypoint: undefined,
      weightedWaypoints: [],
      ingressUseWaypoint: false,
      condition: undefined,
      bound: false,
    };
  }
  const { object, namespace } = user;
  const label = labelOf(object, INGRESS_USE_WAYPOINT) ?? (namespace && labelOf(namespace, INGRESS_USE_WAYPOINT));
  const ingress = parseGoBool(label) ?? false;
  const canary = binding.problem === undefined ? canaryOf(service, binding) : undefined;
  const detail = ingressDetail(label, ingress) + canaryDetail(canary);
  return {
    waypoint: binding.address,
    weightedWaypoints: canary?.weighted ?? [],
    // With a waypoint that nobody finds, the ingress refuses, too.
    ingressUseWaypoint: ingress && binding.address !== undefined,
    condition: boundCondition(binding, detail),
    bound: binding.problem === undefined,
  };
}

interface Canary {
  readonly weighted: readonly WeightedWaypoint[];
  readonly problem: string | undefined;
}

/** undefined: none is asked for. The namespace is asked only when its waypoint is used, too. */
function canaryOf(user: WaypointUser, primary: WaypointBinding): Canary | undefined {
  const { object, namespace, waypoints } = user;
  const home = namespaceOf(object);
  const level = primary.inherited ? namespace : undefined;
  const key =
    reference(object, CANARY, CANARY_NAMESPACE, home) ?? (level && reference(level, CANARY, CANARY_NAMESPACE, home));
  if (key === undefined || key === NO_WAYPOINT || primary.address === undefined) return undefined;
  const refused = (problem: string): Canary => ({ weighted: [], problem });
  if (key === primary.key) return refused(`"${key}" is the primary waypoint already`);
  const text = annotationOf(object, CANARY_WEIGHT) ?? (level && annotationOf(level, CANARY_WEIGHT)) ?? "0";
  const weight = /^\d{1,3}$/.test(text) ? Number(text) : ALL_PERCENT + 1;
  if (weight > ALL_PERCENT) return refused(`weight "${text}" is not a whole number from 0 to 100`);
  const waypoint = waypoints(key);
  const problem = problemOf(user, key, waypoint);
  if (problem !== undefined || waypoint?.address === undefined) return refused(problem?.message ?? "");
  const weighted = [
    { destination: primary.address, weight: ALL_PERCENT - weight },
    { destination: waypoint.address, weight },
  ];
  return { weighted, problem: undefined };
}

function ingressDetail(label: string | undefined, ingress: boolean): string {
  if (label === undefined) return "";
  return ingress
    ? ". Ingress traffic will traverse the waypoint"
    : ". Ingress traffic is not using the waypoint, set the istio.io/ingress-use-waypoint label to true if desired.";
}

function canaryDetail(canary: Canary | undefined): string {
  return canary?.problem === undefined ? "" : `. Canary waypoint not attached: ${canary.problem}`;
}
