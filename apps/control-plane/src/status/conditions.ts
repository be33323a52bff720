import type { Condition, MeshObjectKind, ObjectStatus, StatusManager } from "@tulle/mesh/convert";
import {
  apiVersionOf,
  AUTHORIZATION_POLICY,
  type KubeObject,
  PEER_AUTHENTICATION,
  POD,
  type ResourceKind,
  SERVICE,
  SERVICE_ENTRY,
  WORKLOAD_ENTRY,
} from "@tulle/store";

/** A condition as it stands in an object, whoever wrote it. */
export interface WrittenCondition {
  readonly type: string;
  readonly status?: string;
  readonly reason?: string;
  readonly message?: string;
  readonly observedGeneration?: number | string;
  readonly lastTransitionTime?: string;
}

interface StatusKind {
  readonly kind: ResourceKind;
  /**
   * The list of conditions is one field to the API (Istio's schemas): who applies it owns it whole, so that the conditions
   * of others must be applied too. Otherwise each condition has an owner of its own.
   */
  readonly wholeList: boolean;
  /** `observedGeneration` is set. As text, for that is how Istio's own conditions have it. */
  readonly observesGeneration: boolean;
}

/** Kinds whose conditions we write. */
const KINDS: ReadonlyMap<MeshObjectKind, StatusKind> = new Map<MeshObjectKind, StatusKind>([
  ["AuthorizationPolicy", { kind: AUTHORIZATION_POLICY, wholeList: true, observesGeneration: true }],
  ["PeerAuthentication", { kind: PEER_AUTHENTICATION, wholeList: true, observesGeneration: true }],
  ["ServiceEntry", { kind: SERVICE_ENTRY, wholeList: true, observesGeneration: false }],
  ["WorkloadEntry", { kind: WORKLOAD_ENTRY, wholeList: true, observesGeneration: false }],
  ["Service", { kind: SERVICE, wholeList: false, observesGeneration: false }],
  ["Pod", { kind: POD, wholeList: false, observesGeneration: false }],
]);

/** Ours on every kind but the pod's own, which is the node agent's. */
const OWN_TYPE = "ambient.tulle.dev/Accepted";

/** Types that each writer answers for: one that it has nothing to say about goes. */
const TYPES: Readonly<Record<StatusManager, readonly string[]>> = {
  "istio-ambient-service": [
    "istio.io/WaypointBound",
    "istio.io/WaypointMissing",
    "istio.io/VisibilityApplied",
    OWN_TYPE,
  ],
  // A policy is for the one or for the other: who speaks of it now takes back what was said for the other.
  "istio-ambient-ztunnel-policy": ["ZtunnelAccepted", "WaypointAccepted"],
  "istio-ambient-waypoint-policy": ["ZtunnelAccepted", "WaypointAccepted"],
  "istio-ambient-workloadentry": ["istio.io/WaypointBound", OWN_TYPE],
  "tulle-ambient-pod": ["istio.io/WaypointBound", OWN_TYPE],
};

export function statusKindOf(kind: MeshObjectKind): ResourceKind | undefined {
  return KINDS.get(kind)?.kind;
}

/**
 * The object to apply as `wanted.manager` so that `present` says what is wanted; undefined when it does already. The
 * time of a condition moves only with its status.
 */
export function statusPatch(wanted: ObjectStatus, present: KubeObject, now: string): KubeObject | undefined {
  const about = KINDS.get(wanted.kind);
  if (about === undefined) return undefined;
  const all = conditionsOf(present);
  const own = new Set([...TYPES[wanted.manager], ...wanted.conditions.map(({ type }) => type)]);
  const known = new Map(all.filter(({ type }) => own.has(type)).map((condition) => [condition.type, condition]));
  const generation =
    about.observesGeneration && wanted.generation !== undefined ? String(wanted.generation) : undefined;
  const conditions = wanted.conditions.map((condition) => {
    return written(condition, known.get(condition.type), generation, now);
  });
  const said = conditions.length === known.size && conditions.every((one) => says(known.get(one.type), one));
  if (said) return undefined;
  const others = about.wholeList ? all.filter(({ type }) => !own.has(type)) : [];
  const list = [...others, ...conditions];
  const { namespace, name } = present.metadata;
  return {
    apiVersion: apiVersionOf(about.kind),
    kind: about.kind.kind,
    metadata: { ...(namespace === undefined ? {} : { namespace }), name },
    status: list.length === 0 ? {} : { conditions: list },
  };
}

/** What is there, as far as it is readable: others write it too. */
export function conditionsOf(object: KubeObject): readonly WrittenCondition[] {
  const status = object["status"];
  if (typeof status !== "object" || status === null || !("conditions" in status)) return [];
  const { conditions } = status;
  if (!Array.isArray(conditions)) return [];
  return (conditions as readonly unknown[]).filter((one): one is WrittenCondition => {
    return typeof one === "object" && one !== null && "type" in one && typeof one.type === "string";
  });
}

function written(
  condition: Condition,
  known: WrittenCondition | undefined,
  generation: string | undefined,
  now: string,
): WrittenCondition {
  const { type, status, reason, message } = condition;
  return {
    type,
    status,
    reason,
    message,
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    lastTransitionTime: known?.status === status ? (known.lastTransitionTime ?? now) : now,
  };
}

function says(known: WrittenCondition | undefined, wanted: WrittenCondition): boolean {
  return (
    known?.status === wanted.status &&
    known?.reason === wanted.reason &&
    known?.message === wanted.message &&
    // 0 and nothing are the same to the API.
    String(known?.observedGeneration ?? 0) === String(wanted.observedGeneration ?? 0)
  );
}
