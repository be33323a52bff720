import type { NativeBuffer } from "@tulle/linux";
import { BIO_C_GET_BUF_MEM_PTR, BIO_C_SET_BUF_MEM_EOF_RETURN } from "./constants.ts";
import { born, freed } from "./ledger.ts";
import { mapBytes, OutWords } from "./native-memory.ts";
import { openssl, type Pointer } from "./openssl.ts";

/**
 * Where sessions read ciphertext from without copying it first: a read-only memory BIO whose BUF_MEM is pointed at the
 * caller's memory in place. One per thread, shared by all sessions: it is full only during one call of `feed`.
 */
export class InputWindow {
  readonly bio: Pointer;
  readonly #words: Uint32Array;
  readonly #wide: BigUint64Array;

  constructor() {
    const ssl = openssl();
    const words = new OutWords();
    this.bio = ssl.BIO_new_mem_buf(words.pointer, 1);
    if (this.bio === 0n) throw new Error("OpenSSL has no memory for a BIO");
    ssl.BIO_ctrl(this.bio, BIO_C_SET_BUF_MEM_EOF_RETURN, -1n, 0n);
    ssl.BIO_ctrl(this.bio, BIO_C_GET_BUF_MEM_PTR, 0n, words.pointer);
    const memory = mapBytes(words.pointerAt(0), 32);
    this.#words = new Uint32Array(memory);
    this.#wide = new BigUint64Array(memory);
    this.#point(0n, 0);
  }

  /** buffer.h: length, data, max. Lengths are far below 4 GiB: the upper halves stay 0. */
  open(buffer: NativeBuffer, offset: number, length: number): void {
    this.#point(buffer.pointerAt(offset), length);
  }

  /** Bytes that were not read. */
  get left(): number {
    return this.#words[0] as number;
  }

  /** Nothing may be read any more. */
  shut(): void {
    this.#words[0] = 0;
  }

  #point(pointer: Pointer, length: number): void {
    this.#wide[1] = pointer;
    this.#words[0] = length;
    this.#words[4] = length;
  }
}

/** Ciphertext of one session that was fed but not yet read: a memory BIO of its own. */
export class Backlog {
  readonly bio: Pointer;

  constructor() {
    const ssl = openssl();
    this.bio = ssl.BIO_new(ssl.BIO_s_mem());
    if (this.bio === 0n) throw new Error("OpenSSL has no memory for a BIO");
    ssl.BIO_ctrl(this.bio, BIO_C_SET_BUF_MEM_EOF_RETURN, -1n, 0n);
    born("backlog");
  }

  add(buffer: NativeBuffer, offset: number, length: number): boolean {
    return openssl().BIO_write(this.bio, buffer.pointerAt(offset), length) === length;
  }

  free(): void {
    openssl().BIO_free(this.bio);
    freed("backlog");
  }
}

let window: InputWindow | undefined;

export function inputWindow(): InputWindow {
  window ??= new InputWindow();
  return window;
}
