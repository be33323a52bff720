import { setImmediate as turn } from "node:timers/promises";
import type { Clock, sleep } from "@tulle/base";

interface Sleeper {
  readonly dueAt: number;
  wake(): void;
}

/** How many turns of the event loop the code under test gets after each step: its longest chain of waits is shorter. */
const TURNS = 4;

/** Real time after which a test gives up. */
const UNTIL_MS = 5_000;

/** Time that a test owns: `clock` and `sleep` for the code under test, `advance` for the test. */
export class FakeTime {
  #now: number;
  readonly #sleepers = new Set<Sleeper>();

  /** `startMs`: milliseconds since the epoch. */
  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#now = startMs;
  }

  readonly clock: Clock = { now: () => this.#now, wall: () => this.#now };

  readonly sleep: typeof sleep = (ms, signal) => {
    if (signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = () => {
        this.#sleepers.delete(sleeper);
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      const sleeper: Sleeper = { dueAt: this.#now + ms, wake };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", wake, { once: true });
    });
  };

  /** How many sleep now. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  /** How long until the next one wakes; undefined when nobody sleeps. */
  get untilNext(): number | undefined {
    const due = [...this.#sleepers].map((sleeper) => sleeper.dueAt);
    return due.length === 0 ? undefined : Math.min(...due) - this.#now;
  }

  /** Lets what is ready run, without time passing. */
  async settle(): Promise<void> {
    for (let i = 0; i < TURNS; i++) await turn();
  }

  /** Waits until something has come true that takes real work but no time of this clock (cryptography, loopback). */
  async until(condition: () => boolean, what = "the condition"): Promise<void> {
    const deadline = performance.now() + UNTIL_MS;
    while (!condition()) {
      if (performance.now() > deadline) throw new Error(`${what} did not come true within ${UNTIL_MS} ms`);
      await turn();
    }
  }

  /** Lets `ms` pass, waking sleepers in the order of their time. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await this.settle();
    for (;;) {
      const [next] = [...this.#sleepers].filter((one) => one.dueAt <= end).sort((a, b) => a.dueAt - b.dueAt);
      if (next === undefined) break;
      this.#now = Math.max(this.#now, next.dueAt);
      next.wake();
      await this.settle();
    }
    this.#now = end;
    await this.settle();
  }
}
