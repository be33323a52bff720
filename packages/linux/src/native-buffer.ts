import ffi from "node:ffi";

/**
 * Memory that may be handed to a system call or to OpenSSL: the only way to do so. It is never pooled by Node, never
 * transferred to another thread, and stays referenced by this object for as long as its address may be used.
 * `pointer` is for `linux` and `tls` alone (a lint rule keeps it so).
 */
export class NativeBuffer {
  readonly bytes: Buffer;
  readonly length: number;
  readonly pointer: bigint;

  private constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.length = bytes.length;
    this.pointer = ffi.getRawPointer(bytes);
  }

  /** Zeroed memory of `length` bytes. */
  static alloc(length: number): NativeBuffer {
    return new NativeBuffer(Buffer.from(new ArrayBuffer(length)));
  }

  /** A copy of `bytes`. */
  static from(bytes: Uint8Array): NativeBuffer {
    const buffer = NativeBuffer.alloc(bytes.length);
    buffer.bytes.set(bytes);
    return buffer;
  }

  /** Throws RangeError unless [offset, offset + length) lies inside. Every native call checks with this first. */
  check(offset: number, length: number): void {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.length) || !Number.isInteger(offset + length)) {
      throw new RangeError(`range ${offset}+${length} is outside a native buffer of ${this.length} bytes`);
    }
  }
}
