/** Lets so many tasks run at a time, so many wait, and refuses the rest. */
export class Slots {
  readonly #waiting: (() => void)[] = [];
  readonly #maxWaiting: number;
  #free: number;

  constructor(options: { readonly slots: number; readonly waiting: number }) {
    this.#free = options.slots;
    this.#maxWaiting = options.waiting;
  }

  /** Rejects with Error when too many wait, else as the task does. */
  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else {
      if (this.#waiting.length >= this.#maxWaiting) throw new Error("too many calls wait already");
      // The slot is handed over, never free in between.
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
