import type { Condition, ObjectStatus } from "./context.ts";
import { statusOf } from "./context.ts";
import { type KubeObjectLike, namespaceOf } from "./kubernetes.ts";
import type { MeshTables } from "./mesh-tables.ts";
import { isPresent, isRecord } from "./policies/spec.ts";
import { bindWaypoint } from "./waypoint-binding.ts";
import type { WaypointLookup } from "./waypoint.ts";

/**
 * Policies that are attached to something (`targetRefs`) are not for ztunnel. Their condition says which waypoint is to
 * enforce them, or that none does (control-plane.md §2.9).
 */

interface Target {
  readonly group: string;
  readonly kind: string;
  readonly name: string;
}

/** What becomes of one target: the waypoint (`namespace/name`) or class that it is bound to, or why it is not. */
type Outcome = { readonly boundTo: string } | { readonly reason: string; readonly message: string };

const MANAGER = "istio-ambient-waypoint-policy";
const GATEWAY_GROUP = "gateway.networking.k8s.io";
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  Service: ["", "core"],
  ServiceEntry: ["networking.istio.io"],
  Gateway: [GATEWAY_GROUP],
  GatewayClass: [GATEWAY_GROUP],
};
/** Waypoints of all namespaces, also where the object of the class is not there. */
const WAYPOINT_CLASS = "istio-waypoint";
const WAYPOINT_CONTROLLER = "istio.io/mesh-controller";
/** Targets that a message lists; the rest is a number. */
const MAX_LISTED = 8;

/** Under which keys a policy is found when what it is attached to changes: `<kind> <namespace>/<name>`, `Namespace <name>`. */
export function policyTargetKeys(policy: KubeObjectLike | undefined): readonly string[] {
  if (policy === undefined) return [];
  const home = namespaceOf(policy);
  return readTargets(policy).flatMap(({ kind, name }) => {
    if (kind === "GatewayClass") return [`${kind} /${name}`];
    // A service's waypoint may be its namespace's.
    return [`${kind} ${home}/${name}`, ...(kind === "Gateway" ? [] : [`Namespace ${home}`])];
  });
}

/** What to say of a policy with targets. `waypoints` may watch what is looked up. */
export function policyTargetStatus(
  policy: KubeObjectLike,
  tables: MeshTables,
  waypoints: WaypointLookup,
): ObjectStatus {
  const targets = readTargets(policy);
  const outcomes = targets.map((target) => outcomeOf(target, namespaceOf(policy), tables, waypoints));
  return statusOf("AuthorizationPolicy", policy, MANAGER, [conditionOf(targets, outcomes, namespaceOf(policy))]);
}

function conditionOf(targets: readonly Target[], outcomes: readonly Outcome[], home: string): Condition {
  const type = "WaypointAccepted";
  const [first] = outcomes;
  if (outcomes.length === 1 && first !== undefined) {
    if ("boundTo" in first) return { type, status: "True", reason: "Accepted", message: `bound to ${first.boundTo}` };
    return { type, status: "False", reason: first.reason, message: `${first.message}: nothing enforces this policy` };
  }
  const lost = targets.filter((_, index) => !("boundTo" in (outcomes[index] ?? {})));
  const names = lost.map(({ group, kind, name }) => `${kind}.${group || "core"}:${home}/${name}`);
  const more = names.length > MAX_LISTED ? ` and ${names.length - MAX_LISTED} more` : "";
  const listed = `Invalid targetRefs: ${names.slice(0, MAX_LISTED).join(", ")}${more}`;
  if (lost.length === 0) {
    const bound = [...new Set(outcomes.map((outcome) => ("boundTo" in outcome ? outcome.boundTo : "")))];
    return { type, status: "True", reason: "Accepted", message: `bound to ${bound.slice(0, MAX_LISTED).join(", ")}` };
  }
  if (lost.length === targets.length) return { type, status: "False", reason: "Invalid", message: listed };
  return { type, status: "True", reason: "PartiallyInvalid", message: listed };
}

function outcomeOf(target: Target, home: string, tables: MeshTables, waypoints: WaypointLookup): Outcome {
  const { group, kind, name } = target;
  const key = `${home}/${name}`;
  if (name === "" || GROUPS[kind]?.includes(group) !== true) {
    return {
      reason: "Invalid",
      message: `a target of the kind ${kind || "?"} in the group "${group}" is not supported`,
    };
  }
  switch (kind) {
    case "GatewayClass":
      return classOutcome(name, home, tables);
    case "Gateway": {
      if (tables.objects.get("Gateway", key) === undefined) return notFound(kind, key);
      if (waypoints(key)?.address !== undefined) return { boundTo: key };
      return { reason: "AncestorNotBound", message: `the Gateway ${key} is not ready` };
    }
    case "Service":
      return serviceOutcome(kind, key, tables.objects.get("Service", key), tables, waypoints);
    default:
      return serviceOutcome(kind, key, tables.objects.get("ServiceEntry", key), tables, waypoints);
  }
}

function classOutcome(name: string, home: string, { objects, settings }: MeshTables): Outcome {
  if (home !== settings.rootNamespace) {
    const message = `a policy for a GatewayClass must be in the namespace ${settings.rootNamespace}`;
    return { reason: "Invalid", message };
  }
  const found = objects.get("GatewayClass", `/${name}`);
  if (found === undefined && name !== WAYPOINT_CLASS) return notFound("GatewayClass", name);
  if (found !== undefined && found.spec?.controllerName !== WAYPOINT_CONTROLLER) {
    return { reason: "Invalid", message: `the GatewayClass ${name} is not one of waypoints` };
  }
  return { boundTo: name };
}

function serviceOutcome(
  kind: string,
  key: string,
  object: KubeObjectLike | undefined,
  tables: MeshTables,
  waypoints: WaypointLookup,
): Outcome {
  if (object === undefined) return notFound(kind, key);
  const namespace = tables.objects.get("Namespace", `/${namespaceOf(object)}`);
  const binding = bindWaypoint({ object, namespace, traffic: "service", waypoints });
  if (binding === undefined) return { reason: "AncestorNotBound", message: `the ${kind} ${key} has no waypoint` };
  if (binding.problem === undefined) return { boundTo: binding.key };
  return { reason: "AncestorNotBound", message: `the ${kind} ${key} is not bound (${binding.problem.message})` };
}

function notFound(kind: string, key: string): Outcome {
  return { reason: "TargetNotFound", message: `there is no ${kind} ${key}` };
}

/** What cannot be read is kept, so that it is reported. */
function readTargets(policy: KubeObjectLike): readonly Target[] {
  const spec: unknown = policy.spec;
  if (!isRecord(spec)) return [];
  const { targetRef, targetRefs } = spec;
  const all: readonly unknown[] = Array.isArray(targetRefs) && targetRefs.length > 0 ? targetRefs : [targetRef];
  const text = (value: unknown) => (typeof value === "string" ? value : "");
  return all.filter(isPresent).map((target) => {
    const { group, kind, name } = isRecord(target) ? target : {};
    return { group: text(group), kind: text(kind), name: text(name) };
  });
}
