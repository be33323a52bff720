import { ChangeCodec } from "./codec/change.ts";
import type { MeshChange } from "./model.ts";
import { policyKey, serviceKey } from "./model.ts";

/** A change that puts something in place. */
export type PutChange = Extract<MeshChange, { kind: "workload" | "service" | "policy" }>;

/**
 * The order in which a set of resources is applied: policies before the workloads that name them; what comes before
 * what goes, so that an address that changes hands is never unknown in between.
 */
const PUT_ORDER = ["policy", "service", "workload"] as const;
const REMOVE_ORDER = ["workload", "service", "policy"] as const;

type Kind = PutChange["kind"];

interface Known {
  readonly kind: Kind;
  readonly key: string;
  readonly bytes: Uint8Array;
}

/** Turns whole sets of resources (a file that was read again) into the few changes that lead from one to the next. */
export class ResourceLog {
  readonly #codec = new ChangeCodec();
  #current: ReadonlyMap<string, Known> = new Map();

  /** Throws MALFORMED_CHANGE or CHANGE_TOO_LARGE, and then nothing has changed. Of two with one key the last counts. */
  replace(resources: Iterable<PutChange>): readonly MeshChange[] {
    const next = new Map<string, Known>();
    const puts: Record<Kind, PutChange[]> = { policy: [], service: [], workload: [] };
    for (const change of resources) {
      const key = resourceKey(change);
      const id = `${change.kind} ${key}`;
      const bytes = this.#codec.encode(change);
      const known = this.#current.get(id);
      next.set(id, { kind: change.kind, key, bytes });
      if (known === undefined || !sameBytes(known.bytes, bytes)) puts[change.kind].push(change);
    }
    const removals: Record<Kind, MeshChange[]> = { policy: [], service: [], workload: [] };
    for (const [id, { kind, key }] of this.#current) {
      if (!next.has(id)) removals[kind].push(removal(kind, key));
    }
    this.#current = next;
    return [...PUT_ORDER.flatMap((kind) => puts[kind]), ...REMOVE_ORDER.flatMap((kind) => removals[kind])];
  }
}

export function resourceKey(change: PutChange): string {
  switch (change.kind) {
    case "workload":
      return change.workload.uid;
    case "service":
      return serviceKey(change.service);
    case "policy":
      return policyKey(change.policy);
    default:
      return change satisfies never;
  }
}

function removal(kind: Kind, key: string): MeshChange {
  switch (kind) {
    case "workload":
      return { kind: "remove-workload", uid: key };
    case "service":
      return { kind: "remove-service", key };
    case "policy":
      return { kind: "remove-policy", key };
    default:
      return kind satisfies never;
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
