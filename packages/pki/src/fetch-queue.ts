/** Why a certificate is wanted: a connection waits, one may come soon, or one grows old. */
export type FetchPriority = "realtime" | "warmup" | "background";

/** Most urgent first. */
const ORDER: readonly FetchPriority[] = ["realtime", "warmup", "background"];

/** Each item once, by priority and then by arrival. Bounded by the number of different items. */
export class FetchQueue<T> {
  readonly #lanes: Readonly<Record<FetchPriority, Set<T>>> = {
    realtime: new Set(),
    warmup: new Set(),
    background: new Set(),
  };

  /** Adds an item, or moves it forward when it waits with a lower priority. */
  add(item: T, priority: FetchPriority): void {
    const wanted = ORDER.indexOf(priority);
    for (const [rank, lane] of ORDER.entries()) {
      if (!this.#lanes[lane].has(item)) continue;
      if (rank <= wanted) return;
      this.#lanes[lane].delete(item);
    }
    this.#lanes[priority].add(item);
  }

  /** Takes the most urgent item. */
  next(): T | undefined {
    for (const lane of ORDER) {
      const [item] = this.#lanes[lane];
      if (item === undefined) continue;
      this.#lanes[lane].delete(item);
      return item;
    }
    return undefined;
  }

  has(item: T): boolean {
    return ORDER.some((lane) => this.#lanes[lane].has(item));
  }

  delete(item: T): void {
    for (const lane of ORDER) this.#lanes[lane].delete(item);
  }

  get size(): number {
    return ORDER.reduce((sum, lane) => sum + this.#lanes[lane].size, 0);
  }
}
