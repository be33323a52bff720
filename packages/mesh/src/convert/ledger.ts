import { type PutChange, resourceKey } from "../resource-log.ts";
import type { MeshObjectKind, ObjectStatus } from "./context.ts";
import { byKey, type KubeObjectLike } from "./kubernetes.ts";
import { same } from "./same.ts";

/** What a flush found to be different from the flush before. */
export interface MeshChanges {
  /** Policies, services, workloads, each by key: what others name comes first. */
  readonly puts: readonly PutChange[];
  /** Workloads (uid), services (`namespace/hostname`), policies (`namespace/name`). */
  readonly removes: readonly { readonly kind: PutChange["kind"]; readonly key: string }[];
  /** Of objects whose conditions changed, by kind and name. Nothing is said of objects that are gone. */
  readonly statuses: readonly ObjectStatus[];
}

/** What one object is made into. */
export interface UnitResult {
  readonly resources: readonly PutChange[];
  /** undefined: nothing is ever said of such an object. */
  readonly status: ObjectStatus | undefined;
}

const PUT_ORDER: readonly PutChange["kind"][] = ["policy", "service", "workload"];
const REMOVE_ORDER = PUT_ORDER.toReversed();

interface Unit {
  readonly ids: readonly string[];
  readonly status: ObjectStatus | undefined;
}

/** Remembers what every unit was made into, and tells what is different. A resource has one unit that makes it. */
export class Ledger {
  readonly #units = new Map<string, Unit>();
  readonly #resources = new Map<string, PutChange>();
  /** Resources of this flush: the new one, or undefined for one that nobody makes any more. */
  #touched = new Map<string, PutChange | undefined>();
  #said: ObjectStatus[] = [];
  readonly #counts = { policy: 0, service: 0, workload: 0 };

  /** undefined: the object is gone. `object`: what the conditions are about, with those that it carries. */
  replace(unit: string, result: UnitResult | undefined, object?: KubeObjectLike): void {
    const known = this.#units.get(unit);
    const ids = (result?.resources ?? []).map(idOf);
    // Another unit may have taken it over in this flush already.
    for (const id of known?.ids ?? []) if (this.#touched.get(id) === undefined) this.#touched.set(id, undefined);
    for (const [index, id] of ids.entries()) this.#touched.set(id, result?.resources[index]);
    if (result === undefined) this.#units.delete(unit);
    else {
      this.#units.set(unit, { ids, status: result.status });
      this.#compare(known?.status, result.status, object);
    }
  }

  take(): MeshChanges {
    const puts: PutChange[] = [];
    const removes: { kind: PutChange["kind"]; key: string }[] = [];
    for (const [id, change] of this.#touched) {
      const known = this.#resources.get(id);
      if (change === undefined) {
        if (known === undefined) continue;
        this.#resources.delete(id);
        this.#counts[known.kind] -= 1;
        removes.push({ kind: known.kind, key: resourceKey(known) });
      } else if (!same(known, change)) {
        if (known === undefined) this.#counts[change.kind] += 1;
        this.#resources.set(id, change);
        puts.push(change);
      }
    }
    const statuses = this.#said.sort(byKey(({ kind, namespace, name }) => `${kind} ${namespace}/${name}`));
    this.#touched = new Map();
    this.#said = [];
    return {
      puts: PUT_ORDER.flatMap((kind) => puts.filter((put) => put.kind === kind).sort(byKey(resourceKey))),
      removes: REMOVE_ORDER.flatMap((kind) => removes.filter((one) => one.kind === kind).sort(byKey(({ key }) => key))),
      statuses,
    };
  }

  get counts(): Readonly<Record<PutChange["kind"], number>> {
    return { ...this.#counts };
  }

  #compare(
    before: ObjectStatus | undefined,
    after: ObjectStatus | undefined,
    object: KubeObjectLike | undefined,
  ): void {
    if (after === undefined) return;
    // What a predecessor of this process said may be wrong by now.
    if (before === undefined && after.conditions.length === 0 && !carriesOurs(object)) return;
    const generation = OBSERVED.has(after.kind) ? after.generation : undefined;
    const known = before !== undefined && OBSERVED.has(before.kind) ? before.generation : undefined;
    if (before !== undefined && same(before.conditions, after.conditions) && generation === known) return;
    this.#said.push(after);
  }
}

/** Kinds whose conditions carry the generation that they were computed from. */
const OBSERVED: ReadonlySet<MeshObjectKind> = new Set(["AuthorizationPolicy", "PeerAuthentication"]);

const OUR_TYPES: ReadonlySet<unknown> = new Set([
  "ZtunnelAccepted",
  "istio.io/WaypointBound",
  "istio.io/WaypointMissing",
  "istio.io/VisibilityApplied",
  "ambient.tulle.dev/Accepted",
]);

function carriesOurs(object: KubeObjectLike | undefined): boolean {
  const status = object?.status;
  const conditions: unknown =
    typeof status === "object" && status !== null && "conditions" in status ? status.conditions : [];
  if (!Array.isArray(conditions)) return false;
  return conditions.some((one: unknown) => {
    return typeof one === "object" && one !== null && "type" in one && OUR_TYPES.has(one.type);
  });
}

function idOf(change: PutChange): string {
  return `${change.kind} ${resourceKey(change)}`;
}
