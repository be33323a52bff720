import ffi from "node:ffi";
import { markAsUntransferable } from "node:worker_threads";

/**
 * Memory that may be handed to a system call or to OpenSSL: the only way to do so. Two shapes: memory of our own
 * (`NativeBuffer.alloc`, `NativeBuffer.from`) and a window on memory that OpenSSL owns (`NativeView`).
 * `pointer` and `pointerAt` are for `linux` and `tls` alone (a lint rule keeps it so).
 */
export interface NativeBuffer {
  /** The bytes, for JavaScript. Memory of our own: the memory itself. A view: a copy, made when it is asked for. */
  readonly bytes: Buffer;
  readonly length: number;
  readonly pointer: bigint;
  /** Throws RangeError unless [offset, offset + length) lies inside. Every native call checks with this first. */
  check(offset: number, length: number): void;
  /** The address of `offset`, which `check` has accepted. Repeated offsets cost no allocation. */
  pointerAt(offset: number): bigint;
}

export const NativeBuffer = {
  /** Zeroed memory of `length` bytes. */
  alloc(length: number): NativeBuffer {
    return new OwnedMemory(Buffer.from(new ArrayBuffer(length)));
  },

  /** A copy of `bytes`. */
  from(bytes: Uint8Array): NativeBuffer {
    const buffer = NativeBuffer.alloc(bytes.length);
    buffer.bytes.set(bytes);
    return buffer;
  },
} as const;

/**
 * A window on memory that somebody else owns (a BIO's bytes), to be pointed anew for each use, so that using it allocates
 * nothing. Only `tls` points it. Whoever gets it may use it until the owner's next call, no longer.
 */
export class NativeView implements NativeBuffer {
  length = 0;
  pointer = 0n;
  #copy: Buffer | undefined;
  #cachedOffset = 0;
  #cachedPointer = 0n;

  /** `length` readable bytes at `pointer`; `point(0n, 0)` takes the memory away again. */
  point(pointer: bigint, length: number): void {
    this.pointer = pointer;
    this.length = length;
    this.#copy = undefined;
    this.#cachedOffset = 0;
    this.#cachedPointer = pointer;
  }

  /** A copy, made once per `point`: for the simulated reactor and for tests, not for the hot path. */
  get bytes(): Buffer {
    this.#copy ??= this.length === 0 ? Buffer.alloc(0) : ffi.toBuffer(this.pointer, this.length, true);
    return this.#copy;
  }

  check(offset: number, length: number): void {
    if (!isRange(offset, length, this.length)) throw outside(offset, length, this.length);
  }

  pointerAt(offset: number): bigint {
    if (offset !== this.#cachedOffset) {
      this.#cachedOffset = offset;
      this.#cachedPointer = this.pointer + BigInt(offset);
    }
    return this.#cachedPointer;
  }
}

/**
 * Never pooled by Node, impossible to transfer or detach, referenced by this object as long as its address is used.
 */
class OwnedMemory implements NativeBuffer {
  readonly bytes: Buffer;
  readonly length: number;
  readonly pointer: bigint;
  #cachedOffset = 0;
  #cachedPointer: bigint;

  constructor(bytes: Buffer) {
    markAsUntransferable(bytes.buffer);
    this.bytes = bytes;
    this.length = bytes.length;
    this.pointer = ffi.getRawPointer(bytes);
    this.#cachedPointer = this.pointer;
  }

  check(offset: number, length: number): void {
    if (!isRange(offset, length, this.length)) throw outside(offset, length, this.length);
  }

  pointerAt(offset: number): bigint {
    if (offset !== this.#cachedOffset) {
      this.#cachedOffset = offset;
      this.#cachedPointer = this.pointer + BigInt(offset);
    }
    return this.#cachedPointer;
  }
}

function isRange(offset: number, length: number, size: number): boolean {
  return offset >= 0 && length >= 0 && offset + length <= size && Number.isInteger(offset) && Number.isInteger(length);
}

function outside(offset: number, length: number, size: number): RangeError {
  return new RangeError(`range ${offset}+${length} is outside a native buffer of ${size} bytes`);
}
