import type { Workload } from "./model.ts";

/**
 * Workloads under keys that several may share. Most keys have one, which is kept as it is: a hundred thousand maps of
 * one entry would take more memory than the workloads.
 */
export class MultiIndex {
  readonly #entries = new Map<string, Workload | Map<string, Workload>>();

  /** By uid. The map is the index's own: it changes. */
  get(key: string): ReadonlyMap<string, Workload> {
    const entry = this.#entries.get(key);
    if (entry === undefined) return NONE;
    return entry instanceof Map ? entry : new Map([[entry.uid, entry]]);
  }

  has(key: string, uid: string): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined) return false;
    return entry instanceof Map ? entry.has(uid) : entry.uid === uid;
  }

  /** The one that `better` prefers to all others. */
  best(key: string, better: (a: Workload, b: Workload) => boolean): Workload | undefined {
    const entry = this.#entries.get(key);
    if (!(entry instanceof Map)) return entry;
    let best: Workload | undefined;
    for (const workload of entry.values()) if (best === undefined || better(workload, best)) best = workload;
    return best;
  }

  keys(): IterableIterator<string> {
    return this.#entries.keys();
  }

  put(key: string, workload: Workload): void {
    const entry = this.#entries.get(key);
    if (entry instanceof Map) entry.set(workload.uid, workload);
    else if (entry === undefined || entry.uid === workload.uid) this.#entries.set(key, workload);
    else {
      this.#entries.set(
        key,
        new Map([
          [entry.uid, entry],
          [workload.uid, workload],
        ]),
      );
    }
  }

  remove(key: string, uid: string): void {
    const entry = this.#entries.get(key);
    if (entry instanceof Map) {
      entry.delete(uid);
      if (entry.size === 0) this.#entries.delete(key);
    } else if (entry?.uid === uid) this.#entries.delete(key);
  }
}

const NONE: ReadonlyMap<string, Workload> = new Map();
