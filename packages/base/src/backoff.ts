import type { Random } from "./clock.ts";

export interface BackoffOptions {
  readonly initialMs: number;
  readonly maxMs: number;
  /** Spread, as a fraction of the delay: 0.2 means ±20 %. Default 0. */
  readonly jitter?: number;
  readonly random?: Random;
}

/** Exponential delays, doubling from `initialMs` up to `maxMs`. */
export class Backoff {
  readonly #options: BackoffOptions;
  #next: number;

  constructor(options: BackoffOptions) {
    this.#options = options;
    this.#next = options.initialMs;
  }

  /** The delay to wait now, in milliseconds. */
  next(): number {
    const { maxMs, jitter = 0, random = Math.random } = this.#options;
    const delay = this.#next;
    this.#next = Math.min(maxMs, delay * 2);
    return delay * (1 + jitter * (2 * random() - 1));
  }

  reset(): void {
    this.#next = this.#options.initialMs;
  }
}

/** Resolves after `ms`, or at once (without throwing) when the signal aborts. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done, { once: true });
  });
}
