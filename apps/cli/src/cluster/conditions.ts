import {
  AUTHORIZATION_POLICY,
  type KubeObject,
  PEER_AUTHENTICATION,
  POD,
  type ResourceKind,
  SERVICE,
  SERVICE_ENTRY,
  type Store,
  WORKLOAD_ENTRY,
} from "@tulle/store";

/** What the mesh says, in the status of users' objects, of what does not work as it is written. */

export interface BadCondition {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}

/** Kinds of which the control plane says something. Whether a pod is captured is told elsewhere. */
const JUDGED: readonly ResourceKind[] = [
  AUTHORIZATION_POLICY,
  PEER_AUTHENTICATION,
  SERVICE,
  SERVICE_ENTRY,
  WORKLOAD_ENTRY,
  POD,
];
/** Its types: others on the same objects are of other controllers (a load balancer's, a readiness gate's). */
const EXPECTED_TRUE: ReadonlySet<string> = new Set([
  "ZtunnelAccepted",
  "WaypointAccepted",
  "istio.io/WaypointBound",
  "ambient.tulle.dev/Accepted",
]);
/** True means that something lacks. */
const EXPECTED_FALSE: ReadonlySet<string> = new Set(["istio.io/WaypointMissing"]);

/** By kind, namespace and name. */
export async function listBadConditions(store: Store): Promise<BadCondition[]> {
  const bad: BadCondition[] = [];
  for (const kind of JUDGED) {
    const found = badConditions(kind.kind, await listIfServed(store, kind));
    bad.push(...found.toSorted((a, b) => (`${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1)));
  }
  return bad;
}

/** Conditions that are not as they should be, and those that say "accepted, but not as written". */
export function badConditions(kind: string, objects: readonly KubeObject[]): BadCondition[] {
  return objects.flatMap(({ metadata, status }) => {
    const { conditions = [] } = (status ?? {}) as { conditions?: readonly Partial<BadCondition>[] };
    return conditions.filter(isBad).map(({ type = "", status: value = "", reason = "", message = "" }) => ({
      kind,
      namespace: metadata.namespace ?? "",
      name: metadata.name,
      type,
      status: value,
      reason,
      message,
    }));
  });
}

function isBad({ type = "", status, reason }: Partial<BadCondition>): boolean {
  if (EXPECTED_FALSE.has(type)) return status === "True";
  if (!EXPECTED_TRUE.has(type)) return false;
  return status !== "True" || (type.endsWith("Accepted") && reason !== "Accepted");
}

async function listIfServed(store: Store, kind: ResourceKind): Promise<readonly KubeObject[]> {
  try {
    return await store.list(kind);
  } catch (error) {
    // The schema is not installed: there can be no object of it.
    if ((error as { code?: unknown }).code === "NOT_FOUND") return [];
    throw error;
  }
}
