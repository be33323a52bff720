import { NativeBuffer, NativeView } from "@tulle/linux";
import { BIO_C_GET_BUF_MEM_PTR, BIO_CTRL_RESET, BIO_FLAGS_NONCLEAR_RST } from "./constants.ts";
import { born, freed } from "./ledger.ts";
import { mapBytes, OutWords } from "./native-memory.ts";
import { openssl, type Pointer } from "./openssl.ts";

/** Empty buffers that a thread keeps for reuse. One is hot; more are needed only while several sessions wait for their peers. */
const MAX_SPARE = 4;
/** A buffer that grew beyond this in a burst is freed instead of kept. */
const MAX_SPARE_BYTES = 1 << 20;
/** Sent bytes at the front of a buffer are dropped once there are this many, so that it cannot grow for ever. */
const COMPACT_BYTES = 256 << 10;

/** Size of the hot buffer from the start: a batch of 128 KiB with its record overhead fits without growing. */
const INITIAL_BYTES = 160 << 10;
const SCRATCH_BYTES = 64 << 10;

const words = new OutWords();
const spare: OutputBuffer[] = [];
let scratch: NativeBuffer | undefined;

/** An empty buffer, most likely the one that was used last. It must come back by `giveOutput`. */
export function takeOutput(): OutputBuffer {
  const output = spare.pop() ?? new OutputBuffer();
  born("output");
  return output;
}

/** Takes a buffer back; what is in it is dropped. */
export function giveOutput(output: OutputBuffer): void {
  // Twice would hand one buffer to two sessions.
  if (spare.includes(output)) throw new Error("a native output was freed twice");
  freed("output");
  output.reset();
  if (spare.length < MAX_SPARE && output.allocated <= MAX_SPARE_BYTES) spare.push(output);
  else output.free();
}

/**
 * Ciphertext that waits to be sent: a memory BIO whose BUF_MEM (buffer.h: length, data, max, flags) is read in place, so
 * that a flush costs no call. Buffers belong to a session only while they hold something; all sessions of a thread write
 * into the same one or two, which stay in the CPU's cache, and an idle session has none.
 */
export class OutputBuffer {
  readonly bio: Pointer;
  readonly view = new NativeView();
  /** Bytes at the front that were sent already. */
  sent = 0;
  #words: Uint32Array;
  #wide: BigUint64Array;
  #dataLow = 0;
  #dataHigh = 0;
  #data: Pointer = 0n;
  #freed = false;

  constructor() {
    const ssl = openssl();
    this.bio = ssl.BIO_new(ssl.BIO_s_mem());
    if (this.bio === 0n) throw new Error("OpenSSL has no memory for a BIO");
    // Without this flag a reset wipes the whole allocation, which costs more than the encryption of a small record.
    ssl.BIO_set_flags(this.bio, BIO_FLAGS_NONCLEAR_RST);
    ssl.BIO_ctrl(this.bio, BIO_C_GET_BUF_MEM_PTR, 0n, words.pointer);
    const memory = mapBytes(words.pointerAt(0), 32);
    this.#words = new Uint32Array(memory);
    this.#wide = new BigUint64Array(memory);
    const initial = scratchMemory();
    for (let left = INITIAL_BYTES; left > 0; left -= SCRATCH_BYTES) {
      ssl.BIO_write(this.bio, initial.pointer, Math.min(left, SCRATCH_BYTES));
    }
    this.reset();
  }

  /** All bytes, sent or not. */
  get length(): number {
    return this.#words[0] as number;
  }

  get allocated(): number {
    return this.#words[4] as number;
  }

  get pending(): number {
    return this.length - this.sent;
  }

  /** The view, pointed at what is in the buffer now. */
  point(): NativeView {
    const low = this.#words[2] as number;
    const high = this.#words[3] as number;
    if (low !== this.#dataLow || high !== this.#dataHigh) {
      this.#dataLow = low;
      this.#dataHigh = high;
      this.#data = this.#wide[1] as bigint;
    }
    if (this.view.pointer !== this.#data || this.view.length !== this.length) this.view.point(this.#data, this.length);
    return this.view;
  }

  /** Forgets everything in it. With NONCLEAR_RST a reset only rewinds, so the length is set to 0 first. */
  reset(): void {
    this.sent = 0;
    this.view.point(0n, 0);
    if (this.#words[0] === 0) return;
    this.#words[0] = 0;
    openssl().BIO_ptr_ctrl(this.bio, BIO_CTRL_RESET, 0n);
  }

  /** Moves the unsent bytes to the front when enough was sent; called before more is written. */
  compact(): void {
    if (this.sent < COMPACT_BYTES || this.sent < this.pending) return;
    const ssl = openssl();
    // Reading advances a position of the BIO's own; asking for the BUF_MEM again makes it move the rest to the front.
    const target = scratchMemory().pointer;
    for (let left = this.sent; left > 0; left -= SCRATCH_BYTES) {
      ssl.BIO_read(this.bio, target, Math.min(left, SCRATCH_BYTES));
    }
    ssl.BIO_ctrl(this.bio, BIO_C_GET_BUF_MEM_PTR, 0n, words.pointer);
    this.sent = 0;
  }

  free(): void {
    if (this.#freed) throw new Error("an output buffer was freed twice");
    this.#freed = true;
    this.view.point(0n, 0);
    // Sessions that have written into it may hold references; for us its memory is gone.
    this.#words = new Uint32Array(8);
    this.#wide = new BigUint64Array(4);
    openssl().BIO_free(this.bio);
  }
}

function scratchMemory(): NativeBuffer {
  scratch ??= NativeBuffer.alloc(SCRATCH_BYTES);
  return scratch;
}
