import type { NativeBuffer } from "@tulle/linux";
import type { ByteBudget, ThreadMemory } from "./memory.ts";
import { SMALL_BUFFER } from "./memory.ts";

/**
 * Bytes that could not be passed on yet, in leased buffers. Memory and budget are counted in whole buffers, so that a
 * peer who sends one byte at a time gains nothing. What bounds a queue is its stream's window.
 */
export class ByteQueue {
  readonly #memory: ThreadMemory;
  readonly #budget: ByteBudget | undefined;
  readonly #buffers: NativeBuffer[] = [];
  /** First byte in the first buffer; end of the bytes in the last one. */
  #start = 0;
  #end = 0;
  #length = 0;

  constructor(memory: ThreadMemory, budget?: ByteBudget) {
    this.#memory = memory;
    this.#budget = budget;
  }

  get length(): number {
    return this.#length;
  }

  /** The oldest bytes are `buffer[offset, offset + available)`; only valid while `length` > 0. */
  get buffer(): NativeBuffer {
    return this.#buffers[0]!;
  }

  get offset(): number {
    return this.#start;
  }

  get available(): number {
    return (this.#buffers.length === 1 ? this.#end : SMALL_BUFFER) - this.#start;
  }

  /** Copies the bytes behind the others. False when the budget refuses: then only a part of them was taken. */
  push(source: NativeBuffer, offset: number, length: number): boolean {
    let at = offset;
    const end = offset + length;
    while (at < end) {
      if (this.#buffers.length === 0 || this.#end === SMALL_BUFFER) {
        if (this.#budget?.tryTake(SMALL_BUFFER) === false) return false;
        this.#buffers.push(this.#memory.lease(SMALL_BUFFER));
        this.#end = 0;
      }
      const count = Math.min(end - at, SMALL_BUFFER - this.#end);
      source.bytes.copy(this.#buffers.at(-1)!.bytes, this.#end, at, at + count);
      this.#end += count;
      this.#length += count;
      at += count;
    }
    return true;
  }

  /** Drops the oldest `count` bytes, at most `available`. */
  shift(count: number): void {
    this.#start += count;
    this.#length -= count;
    if (this.#length > 0 && this.#start < SMALL_BUFFER) return;
    this.#start = 0;
    this.#give(this.#buffers.shift()!);
  }

  clear(): void {
    for (const buffer of this.#buffers) this.#give(buffer);
    this.#buffers.length = 0;
    this.#start = 0;
    this.#end = 0;
    this.#length = 0;
  }

  #give(buffer: NativeBuffer): void {
    this.#memory.release(buffer);
    this.#budget?.give(SMALL_BUFFER);
  }
}
