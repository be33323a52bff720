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
  /** What was said, before this flush, of what the units of this flush are about. */
  #before = new Map<string, ObjectStatus | undefined>();
  readonly #counts = { policy: 0, service: 0, workload: 0 };

  /** undefined: the object is gone. `object`: what the conditions are about, with those that it carries. */
  replace(unit: string, result: UnitResult | undefined, object?: KubeObjectLike): void {
    const known = this.#units.get(unit);
    const ids = (result?.resources ?? []).map(idOf);
    // Another unit may have taken it over in this flush already.
    for (const id of known?.ids ?? []) if (this.#touched.get(id) === undefined) this.#touched.set(id, undefined);
    for (const [index, id] of ids.entries()) this.#touched.set(id, result?.resources[index]);
    if (!this.#before.has(unit)) this.#before.set(unit, known?.status ?? unsaid(result?.status, object));
    if (result === undefined) this.#units.delete(unit);
    else this.#units.set(unit, { ids, status: result.status });
  }

  /** The object is another one by the same name: what was said of it went with its predecessor. */
  forgetStatus(unit: string): void {
    const known = this.#units.get(unit);
    if (known === undefined) return;
    this.#units.set(unit, { ids: known.ids, status: undefined });
    this.#before.delete(unit);
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
    const statuses: ObjectStatus[] = [];
    for (const [unit, before] of this.#before) {
      const status = this.#units.get(unit)?.status;
      if (status !== undefined && !sameStatus(before, status)) statuses.push(status);
    }
    this.#touched = new Map();
    this.#before = new Map();
    return {
      puts: PUT_ORDER.flatMap((kind) => puts.filter((put) => put.kind === kind).sort(byKey(resourceKey))),
      removes: REMOVE_ORDER.flatMap((kind) => removes.filter((one) => one.kind === kind).sort(byKey(({ key }) => key))),
      statuses: statuses.sort(byKey(({ kind, namespace, name }) => `${kind} ${namespace}/${name}`)),
    };
  }

  get counts(): Readonly<Record<PutChange["kind"], number>> {
    return { ...this.#counts };
  }
}

/** Nothing was said of a new object, unless a predecessor of this process said something that may be wrong by now. */
function unsaid(status: ObjectStatus | undefined, object: KubeObjectLike | undefined): ObjectStatus | undefined {
  return status === undefined || carriesOurs(object) ? undefined : { ...status, conditions: [] };
}

function sameStatus(before: ObjectStatus | undefined, after: ObjectStatus): boolean {
  if (before === undefined || !same(before.conditions, after.conditions)) return false;
  // A generation that nothing was said of needs no word now, either.
  return !OBSERVED.has(after.kind) || after.conditions.length === 0 || before.generation === after.generation;
}

/** Kinds whose conditions carry the generation that they were computed from. */
const OBSERVED: ReadonlySet<MeshObjectKind> = new Set(["AuthorizationPolicy", "PeerAuthentication"]);

const OUR_TYPES: ReadonlySet<unknown> = new Set([
  "ZtunnelAccepted",
  "WaypointAccepted",
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
