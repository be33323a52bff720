import type { Reactor, Timer } from "@tulle/reactor";

/** What is needed of the reactor; a test may bring its own. */
export type Timers = Pick<Reactor, "now" | "after" | "defer">;

export interface LivenessOptions {
  /** A PING is sent this often, ms. 0 turns it off. */
  readonly intervalMs: number;
  /** Nothing at all received for this long after a PING, ms: the peer is dead. */
  readonly timeoutMs: number;
}

/** Notices a peer that no longer answers, within interval + timeout, by PING frames. */
export class Liveness {
  readonly #timers: Timers;
  readonly #options: LivenessOptions;
  readonly #sendPing: () => void;
  readonly #onDead: () => void;
  #timer: Timer | undefined;
  #receivedAt: number;

  constructor(timers: Timers, options: LivenessOptions, sendPing: () => void, onDead: () => void) {
    this.#timers = timers;
    this.#options = options;
    this.#sendPing = sendPing;
    this.#onDead = onDead;
    this.#receivedAt = timers.now();
    if (options.intervalMs > 0) this.#timer = timers.after(options.intervalMs, () => this.#ping());
  }

  /** Bytes of any kind came: the peer lives. */
  received(): void {
    this.#receivedAt = this.#timers.now();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #ping(): void {
    const pingedAt = this.#timers.now();
    this.#sendPing();
    this.#timer = this.#timers.after(this.#options.timeoutMs, () => this.#check(pingedAt));
  }

  #check(pingedAt: number): void {
    if (this.#receivedAt < pingedAt) {
      this.#timer = undefined;
      this.#onDead();
      return;
    }
    const rest = Math.max(0, this.#options.intervalMs - this.#options.timeoutMs);
    if (rest === 0) this.#ping();
    else this.#timer = this.#timers.after(rest, () => this.#ping());
  }
}
