/** How a stream has come to its end; decides what a late frame for it means (RFC 9113 §5.1). */
export type Closing = "ended" | "reset-by-us" | "reset-by-peer";

/**
 * So many closed streams are remembered: more than can be in flight within a round trip at the rates that are seen
 * (10,000 streams a second at 20 ms).
 */
const REMEMBERED = 256;

const CLOSINGS: readonly Closing[] = ["ended", "reset-by-us", "reset-by-peer"];

/** The streams that were closed last; memory is made when the first one is closed. */
export class ClosedStreams {
  #ids: Uint32Array | undefined;
  #hows: Uint8Array | undefined;
  #next = 0;

  add(id: number, how: Closing): void {
    this.#ids ??= new Uint32Array(REMEMBERED);
    this.#hows ??= new Uint8Array(REMEMBERED);
    this.#ids[this.#next] = id;
    this.#hows[this.#next] = CLOSINGS.indexOf(how);
    this.#next = (this.#next + 1) % REMEMBERED;
  }

  /** Undefined: never opened, or forgotten. */
  get(id: number): Closing | undefined {
    const slot = this.#ids?.indexOf(id) ?? -1;
    return slot < 0 ? undefined : CLOSINGS[this.#hows![slot]!];
  }
}
