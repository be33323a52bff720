import type { Task, Timer } from "@tulle/reactor";
import type { Timers } from "../src/liveness.ts";

interface Entry {
  readonly at: number;
  readonly callback: () => void;
}

/** A clock and a deferred queue that the test moves by hand. */
export class ManualTimers implements Timers {
  #now = 1000;
  readonly #entries = new Set<Entry>();
  readonly #tasks: Task[] = [];

  get pending(): number {
    return this.#entries.size;
  }

  now(): number {
    return this.#now;
  }

  after(delayMs: number, callback: () => void): Timer {
    const entry = { at: this.#now + delayMs, callback };
    this.#entries.add(entry);
    return { cancel: () => void this.#entries.delete(entry) };
  }

  defer(task: Task): void {
    if (task.deferred) return;
    task.deferred = true;
    this.#tasks.push(task);
  }

  /** Ends a turn: runs what was deferred, and what that defers, a few times at most. */
  settle(): void {
    for (let round = 0; round < 100 && this.#tasks.length > 0; round++) {
      for (const task of this.#tasks.splice(0)) {
        task.deferred = false;
        task.run();
      }
    }
  }

  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#entries].filter((entry) => entry.at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#now = Math.max(this.#now, due.at);
      this.#entries.delete(due);
      due.callback();
      this.settle();
    }
    this.#now = end;
  }
}
