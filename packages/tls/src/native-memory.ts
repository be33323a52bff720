import ffi from "node:ffi";
import { NativeBuffer } from "@tulle/linux";
import type { Pointer } from "./openssl.ts";

/** Longest C string that is taken from OpenSSL: its own messages are far shorter. */
const MAX_TEXT = 256;

/** Room for what OpenSSL returns through pointers: a few words, reused by every call of this thread. */
export class OutWords {
  readonly #memory = NativeBuffer.alloc(64);
  readonly pointer: Pointer = this.#memory.pointer;
  readonly second: Pointer = this.#memory.pointer + 8n;

  /** The pointer in word `index` (8 bytes each). */
  pointerAt(index: number): Pointer {
    return this.#memory.bytes.readBigUInt64LE(index * 8);
  }

  /** The 32-bit number at byte `offset`. */
  int32At(offset: number): number {
    return this.#memory.bytes.readInt32LE(offset);
  }

  clear(): void {
    this.#memory.bytes.fill(0);
  }
}

/** A copy of `length` bytes at `pointer`. */
export function copyBytes(pointer: Pointer, length: number): Buffer {
  return length === 0 ? Buffer.alloc(0) : ffi.toBuffer(pointer, length, true);
}

/** A NUL-terminated string of OpenSSL's; empty for NULL. */
export function textAt(pointer: Pointer): string {
  if (pointer === 0n) return "";
  let text = "";
  for (let i = 0; i < MAX_TEXT; i++) {
    const code = ffi.getUint8(pointer, i);
    if (code === 0) break;
    text += String.fromCharCode(code);
  }
  return text;
}

/** A live window on `length` bytes at `pointer`; whoever asks guarantees that the memory outlives it. */
export function mapBytes(pointer: Pointer, length: number): ArrayBuffer {
  return ffi.toArrayBuffer(pointer, length, false);
}

export function writePointer(at: Pointer, value: Pointer): void {
  ffi.setUint64(at, 0, value);
}

export function writeByte(at: Pointer, value: number): void {
  ffi.setUint8(at, 0, value);
}

export function writeInt32(at: Pointer, value: number): void {
  ffi.setInt32(at, 0, value);
}
