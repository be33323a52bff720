import type { Http2Stream } from "./stream.ts";

/** So much of one stream goes out before another one that waits gets its turn, bytes. */
const QUANTUM = 262_144;

/**
 * Streams that wait for the transport or for the connection's window, in the order in which they came. Each gets a turn of
 * QUANTUM bytes, then stands behind the others again, so that a stream that always has data cannot starve them.
 */
export class SendLine {
  readonly #waiting: Http2Stream[] = [];
  /** The stream whose turn it is, and how much of its turn is left. */
  #turnOf: Http2Stream | undefined;
  #left = 0;

  get length(): number {
    return this.#waiting.length;
  }

  /** Whether this stream may send now: it is its turn, or nobody waits. */
  admits(stream: Http2Stream): boolean {
    return this.#waiting.length === 0 || (this.#turnOf === stream && this.#left > 0);
  }

  join(stream: Http2Stream): void {
    if (stream.waiting) return;
    stream.waiting = true;
    this.#waiting.push(stream);
  }

  leave(stream: Http2Stream): void {
    if (!stream.waiting) return;
    stream.waiting = false;
    this.#waiting.splice(this.#waiting.indexOf(stream), 1);
  }

  /** The stream whose turn it is has sent `bytes`. */
  spend(bytes: number): void {
    this.#left -= bytes;
  }

  /** Gives each stream that waits now one turn, as long as `open` says that something may be sent. */
  serve(open: () => boolean): void {
    for (let n = this.#waiting.length; n > 0 && open(); n--) {
      const stream = this.#waiting.shift();
      if (stream === undefined) return;
      stream.waiting = false;
      this.#turnOf = stream;
      this.#left = QUANTUM;
      stream.handler.onSendable(stream);
      this.#turnOf = undefined;
    }
  }

  clear(): void {
    for (const stream of this.#waiting) stream.waiting = false;
    this.#waiting.length = 0;
  }
}
