/**
 * Objects by slot and generation, the two numbers that epoll gives back with an event. A slot is used again, its
 * generation is not (for 2^31 uses): an event of something closed finds nothing.
 */
export class SlotTable<T extends object> {
  readonly #objects: (T | undefined)[] = [];
  readonly #generations: number[] = [];
  readonly #free: number[] = [];

  /** The slot that now holds the object; `generation` tells the other number. */
  add(object: T): number {
    const slot = this.#free.pop() ?? this.#objects.length;
    this.#objects[slot] = object;
    this.#generations[slot] ??= 0;
    return slot;
  }

  generation(slot: number): number {
    return this.#generations[slot] as number;
  }

  get(slot: number, generation: number): T | undefined {
    return this.#generations[slot] === generation ? this.#objects[slot] : undefined;
  }

  remove(slot: number): void {
    if (this.#objects[slot] === undefined) return;
    this.#objects[slot] = undefined;
    this.#generations[slot] = ((this.#generations[slot] as number) + 1) & 0x7fffffff;
    this.#free.push(slot);
  }

  /** What is in now; adding and removing meanwhile is allowed. */
  all(): T[] {
    return this.#objects.filter((object) => object !== undefined);
  }
}
