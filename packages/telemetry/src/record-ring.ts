/**
 * A ring of byte records in shared memory: one producer (a data thread), one consumer (the main thread). The producer
 * never waits; a record that finds no room is dropped and counted. Ordinary records must leave `RESERVED` bytes free,
 * which important ones may use.
 */

export interface RingOptions {
  /** Bytes for records; a power of two. Default 1 MiB. */
  readonly capacity?: number;
  /** Bytes that ordinary records leave free. Default an eighth of the capacity. */
  readonly reserved?: number;
}

/** Called once per record; `bytes[start, end)` is valid during the call only. Return false to leave this and later records in the ring. */
export type RecordConsumer = (kind: number, bytes: Buffer, start: number, end: number) => boolean;

/** About 2,500 access log lines: what a thread writes in a third of a second at its highest connection rate. */
const DEFAULT_CAPACITY = 1 << 20;
/** A longer record is cut: a line that long helps nobody and would push out many others. */
export const MAX_RECORD_BYTES = 8192;

/** Words at the start of the memory, each on a line of its own where two threads write. */
const HEAD = 0;
const TAIL = 16;
const ASLEEP = 32;
const DROPPED = 33;
const DROPPED_IMPORTANT = 34;
const RESERVED = 35;
const HEADER_BYTES = 256;

const FRAME_HEADER = 4;
/** Fills the end of the memory when a record does not fit in before it wraps. */
const PADDING = 0;

export function createRing(options: RingOptions = {}): SharedArrayBuffer {
  const capacity = options.capacity ?? DEFAULT_CAPACITY;
  if (capacity < 2 * MAX_RECORD_BYTES || (capacity & (capacity - 1)) !== 0) {
    throw new RangeError(`a ring's capacity must be a power of two and hold two records, not ${capacity}`);
  }
  const memory = new SharedArrayBuffer(HEADER_BYTES + capacity);
  new Int32Array(memory)[RESERVED] = options.reserved ?? capacity >> 3;
  return memory;
}

export class RingProducer {
  readonly #words: Int32Array;
  readonly #bytes: Buffer;
  readonly #view: Uint32Array;
  readonly #capacity: number;
  readonly #reserved: number;
  /** Only this thread moves the head. */
  #head: number;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory, 0, HEADER_BYTES >> 2);
    this.#bytes = Buffer.from(memory, HEADER_BYTES);
    this.#view = new Uint32Array(memory, HEADER_BYTES);
    this.#capacity = memory.byteLength - HEADER_BYTES;
    this.#reserved = this.#words[RESERVED] ?? 0;
    this.#head = Atomics.load(this.#words, HEAD) >>> 0;
  }

  /** Appends `text` as UTF-8. False when it was dropped. `kind` is 1–255. */
  write(kind: number, text: string, important: boolean): boolean {
    const length = Math.min(Buffer.byteLength(text), MAX_RECORD_BYTES);
    const size = (FRAME_HEADER + length + 3) & ~3;
    const offset = this.#head & (this.#capacity - 1);
    const toEnd = this.#capacity - offset;
    const needed = size <= toEnd ? size : toEnd + size;
    const used = (this.#head - Atomics.load(this.#words, TAIL)) >>> 0;
    if (used + needed + (important ? 0 : this.#reserved) > this.#capacity) {
      Atomics.add(this.#words, important ? DROPPED_IMPORTANT : DROPPED, 1);
      return false;
    }
    let start = offset;
    if (needed !== size) {
      this.#view[offset >> 2] = (PADDING << 24) | (toEnd - FRAME_HEADER);
      start = 0;
    }
    // A cut inside a character writes less than asked; the frame's length is what was written.
    const written = this.#bytes.write(text, start + FRAME_HEADER, length, "utf8");
    this.#view[start >> 2] = ((kind << 24) | written) >>> 0;
    // `size` was computed from `length`, which is at most three bytes more: the reader must advance by the same.
    const actual = (FRAME_HEADER + written + 3) & ~3;
    this.#head = (this.#head + needed - size + actual) >>> 0;
    Atomics.store(this.#words, HEAD, this.#head | 0);
    if (Atomics.compareExchange(this.#words, ASLEEP, 1, 0) === 1) Atomics.notify(this.#words, ASLEEP);
    return true;
  }
}

export class RingConsumer {
  readonly #words: Int32Array;
  readonly #bytes: Buffer;
  readonly #view: Uint32Array;
  readonly #capacity: number;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory, 0, HEADER_BYTES >> 2);
    this.#bytes = Buffer.from(memory, HEADER_BYTES);
    this.#view = new Uint32Array(memory, HEADER_BYTES);
    this.#capacity = memory.byteLength - HEADER_BYTES;
  }

  /** Hands over what is there, oldest first, until the consumer returns false. Returns how many records were taken. */
  drain(consumer: RecordConsumer): number {
    const head = Atomics.load(this.#words, HEAD) >>> 0;
    let tail = Atomics.load(this.#words, TAIL) >>> 0;
    let count = 0;
    while (tail !== head) {
      const offset = tail & (this.#capacity - 1);
      const frame = this.#view[offset >> 2] ?? 0;
      const kind = frame >>> 24;
      const length = frame & 0xffffff;
      const start = offset + FRAME_HEADER;
      if (kind !== PADDING) {
        if (!consumer(kind, this.#bytes, start, start + length)) break;
        count++;
      }
      tail = (tail + ((FRAME_HEADER + length + 3) & ~3)) >>> 0;
      Atomics.store(this.#words, TAIL, tail | 0);
    }
    return count;
  }

  get empty(): boolean {
    return Atomics.load(this.#words, HEAD) === Atomics.load(this.#words, TAIL);
  }

  /** Resolves when there is something to take (or `wake` was called). Costs nothing while the producer is silent. */
  async wait(): Promise<void> {
    Atomics.store(this.#words, ASLEEP, 1);
    if (!this.empty) {
      Atomics.store(this.#words, ASLEEP, 0);
      return;
    }
    const result = Atomics.waitAsync(this.#words, ASLEEP, 1);
    if (result.async) await result.value;
  }

  /** Ends a `wait`, from the consumer's own side. */
  wake(): void {
    Atomics.store(this.#words, ASLEEP, 0);
    Atomics.notify(this.#words, ASLEEP);
  }

  /** Ordinary and important records dropped since the ring was made (modulo 2^32). */
  get dropped(): { readonly ordinary: number; readonly important: number } {
    return {
      ordinary: Atomics.load(this.#words, DROPPED) >>> 0,
      important: Atomics.load(this.#words, DROPPED_IMPORTANT) >>> 0,
    };
  }
}
