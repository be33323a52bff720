import { DEFAULT_WINDOW } from "./frame.ts";

/** Credit is returned when this share of the window was consumed: early enough that a fast peer never waits. */
const RETURN_SHARE = 0.5;
/** A stream whose half window was consumed within this time grows: its window becomes what passes in about 100 ms. */
const GROW_WITHIN_MS = 50;

/**
 * Shares out a connection's window. The sum of what all streams may have outstanding never exceeds it, even if the peer
 * opens all the streams that it may and nobody reads from any of them: then a stream that is not read from cannot take the
 * credit of another. What is left beyond the initial windows goes to streams that are fast.
 */
export class WindowPlan {
  readonly connectionWindow: number;
  readonly initialWindow: number;
  readonly #maxStreamWindow: number;
  #spare: number;

  constructor(options: {
    connectionWindow: number;
    initialWindow: number;
    maxStreamWindow: number;
    maxStreams: number;
  }) {
    this.connectionWindow = options.connectionWindow;
    // A power of two that leaves a fifth of the connection's window to fast streams.
    let initial = options.initialWindow;
    while (initial > 1024 && initial * options.maxStreams > options.connectionWindow * 0.8) initial >>>= 1;
    this.initialWindow = initial;
    this.#maxStreamWindow = options.maxStreamWindow;
    this.#spare = Math.max(0, options.connectionWindow - initial * options.maxStreams);
  }

  /** Bytes that fast streams may still get. */
  get spare(): number {
    return this.#spare;
  }

  /** How much more a stream with this window may get: it is doubled at most. */
  grow(size: number): number {
    const more = Math.max(0, Math.min(size, this.#maxStreamWindow - size, this.#spare));
    this.#spare -= more;
    return more;
  }

  giveBack(bytes: number): void {
    this.#spare += bytes;
  }
}

/** What the peer may send on one stream, and when it may send more. */
export class ReceiveWindow {
  /** Bytes that the peer may send now; below zero after a smaller SETTINGS_INITIAL_WINDOW_SIZE. */
  available: number;
  readonly #plan: WindowPlan;
  /** The window's full size. */
  #size: number;
  /** Consumed, but not returned to the peer. */
  #owed = 0;
  #returnedAt: number;
  /** Beyond the initial size; given back to the plan when the stream slows down or ends. */
  #extra = 0;

  constructor(plan: WindowPlan, size: number, now: number) {
    this.#plan = plan;
    this.#size = size;
    this.available = size;
    this.#returnedAt = now;
  }

  get size(): number {
    return this.#size;
  }

  /** Our SETTINGS were acknowledged: the peer counts with the new initial size from here on. */
  adjust(delta: number): void {
    this.#size += delta;
    this.available += delta;
  }

  /** The consumer took `bytes`; returns the increment to send, 0 for none yet. `queued`: what the consumer has not taken. */
  consume(bytes: number, queued: number, now: number): number {
    this.#owed += bytes;
    if (queued > 0 && this.#extra > 0) this.#shrink();
    if (this.#owed < this.#size * RETURN_SHARE) return 0;
    let increment = this.#owed;
    if (queued === 0 && now - this.#returnedAt < GROW_WITHIN_MS) {
      const more = this.#plan.grow(this.#size);
      this.#size += more;
      this.#extra += more;
      increment += more;
    }
    this.#owed = 0;
    this.#returnedAt = now;
    this.available += increment;
    return increment;
  }

  /** The stream is over; what it had beyond the initial window is free for others. */
  close(): void {
    this.#plan.giveBack(this.#extra);
    this.#extra = 0;
  }

  /** Keeps what was consumed instead of returning it, until the window has its initial size again. */
  #shrink(): void {
    const less = Math.min(this.#extra, this.#owed);
    this.#extra -= less;
    this.#size -= less;
    this.#owed -= less;
    this.#plan.giveBack(less);
  }
}

/** The connection's own window: opened to its full size at the start, returned as bytes are consumed. */
export class ConnectionWindow {
  available = DEFAULT_WINDOW;
  readonly #size: number;
  #owed: number;

  constructor(size: number) {
    this.#size = size;
    this.#owed = Math.max(0, size - DEFAULT_WINDOW);
  }

  /** Returns the increment to send, 0 for none yet. Also used, with 0 bytes, to open the window at the start. */
  consume(bytes: number): number {
    this.#owed += bytes;
    if (this.#owed < this.#size * (RETURN_SHARE / 2)) return 0;
    const increment = this.#owed;
    this.#owed = 0;
    this.available += increment;
    return increment;
  }
}
