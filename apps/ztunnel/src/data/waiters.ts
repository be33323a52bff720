import type { Reactor, Timer } from "@tulle/reactor";

/** How long a connection waits for what the control plane has not said yet (spec: l4-ztunnel §10). */
export const STATE_WAIT_MS = 5000;
/** Connections of one thread that wait for the control plane at a time; more are refused at once. */
export const MAX_WAITERS = 16_384;

/** A connection that cannot be decided yet. */
export interface Waiting {
  /** Decide again. True: done (decided, refused or gone); false: still waiting. */
  retry(): boolean;
  /** The wait is over without an answer. */
  expire(): void;
}

/** Connections that wait for a change of the mesh's state: each is retried after every batch of changes, for 5 s. */
export class Waiters {
  readonly #reactor: Reactor;
  readonly #waiting = new Map<Waiting, Timer>();

  constructor(reactor: Reactor) {
    this.#reactor = reactor;
  }

  /** False when too many wait already: the caller refuses. */
  add(waiting: Waiting): boolean {
    if (this.#waiting.size >= MAX_WAITERS) return false;
    const timer = this.#reactor.after(STATE_WAIT_MS, () => {
      if (this.#waiting.delete(waiting)) waiting.expire();
    });
    this.#waiting.set(waiting, timer);
    return true;
  }

  /** To be called after a batch of changes has been applied. */
  retryAll(): void {
    for (const [waiting, timer] of [...this.#waiting]) {
      if (!waiting.retry()) continue;
      this.#waiting.delete(waiting);
      timer.cancel();
    }
  }

  remove(waiting: Waiting): void {
    this.#waiting.get(waiting)?.cancel();
    this.#waiting.delete(waiting);
  }

  get size(): number {
    return this.#waiting.size;
  }
}
