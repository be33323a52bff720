import type { NativeBuffer } from "@tulle/linux";
import { Backlog, inputWindow } from "./input.ts";
import { openssl, type Pointer } from "./openssl.ts";
import { giveOutput, type OutputBuffer, takeOutput } from "./output-buffer.ts";

/** Ciphertext that may wait to be read; a caller that feeds more without reading has no backpressure. */
const MAX_BACKLOG_BYTES = 4 << 20;

/**
 * Where one SSL reads its ciphertext from and writes it to. Memory is borrowed: the thread's input window during a feed,
 * an output buffer while something waits to be sent. An idle session holds neither.
 */
export class SessionBuffers {
  readonly #ssl: Pointer;
  /** Holds ciphertext of this session; undefined while there is none. */
  #output: OutputBuffer | undefined;
  /** The buffer that SSL writes into. It may hold another session's bytes: `attach` before every call that can write. */
  #attached: OutputBuffer | undefined;
  #backlog: Backlog | undefined;
  #backlogBytes = 0;

  constructor(ssl: Pointer) {
    this.#ssl = ssl;
    this.#readFrom(inputWindow().bio);
  }

  /** Lets OpenSSL write into a buffer that holds nothing but bytes of this session. Every call is followed by `settle`. */
  attach(): void {
    const output = this.#output ?? takeOutput();
    if (this.#output === undefined) this.#output = output;
    else output.compact();
    if (output === this.#attached) return;
    const ssl = openssl();
    ssl.BIO_up_ref(output.bio);
    ssl.SSL_set0_wbio(this.#ssl, output.bio);
    this.#attached = output;
  }

  /** A buffer that is (or stayed) empty goes back to the thread. */
  settle(): void {
    const output = this.#output;
    if (output === undefined || output.pending > 0) return;
    this.#output = undefined;
    giveOutput(output);
  }

  get pending(): number {
    return this.#output === undefined ? 0 : this.#output.pending;
  }

  get ciphertext(): NativeBuffer {
    if (this.#output === undefined) throw new Error("this TLS session has no ciphertext to send");
    return this.#output.point();
  }

  get ciphertextOffset(): number {
    return this.#output === undefined ? 0 : this.#output.sent;
  }

  consume(length: number): void {
    if (!(Number.isInteger(length) && length >= 0 && length <= this.pending)) {
      throw new RangeError(`cannot consume ${length} of ${this.pending} bytes of ciphertext`);
    }
    if (this.#output === undefined) return;
    this.#output.sent += length;
    this.settle();
  }

  /** Whether fed ciphertext waits in a copy, so that what comes now must wait behind it. */
  get hasBacklog(): boolean {
    return this.#backlog !== undefined;
  }

  /** Copies ciphertext that cannot be read yet. False when OpenSSL has no memory. */
  keep(buffer: NativeBuffer, offset: number, length: number): boolean {
    this.#backlogBytes += length;
    if (this.#backlogBytes > MAX_BACKLOG_BYTES) {
      throw new RangeError("a TLS session was fed 4 MiB that nobody has read: stop reading from its socket");
    }
    if (this.#backlog === undefined) {
      this.#backlog = new Backlog();
      this.#readFrom(this.#backlog.bio);
    }
    return this.#backlog.add(buffer, offset, length);
  }

  /** Everything in it was read (or is of no use any more): later ciphertext need not be copied. */
  dropBacklog(): void {
    if (this.#backlog === undefined) return;
    this.#readFrom(inputWindow().bio);
    this.#backlog.free();
    this.#backlog = undefined;
    this.#backlogBytes = 0;
  }

  /** Once, after SSL_free, which lets go of the references that the SSL held. */
  free(): void {
    if (this.#output !== undefined) giveOutput(this.#output);
    this.#output = undefined;
    this.#attached = undefined;
    this.#backlog?.free();
    this.#backlog = undefined;
  }

  #readFrom(bio: Pointer): void {
    const ssl = openssl();
    ssl.BIO_up_ref(bio);
    ssl.SSL_set0_rbio(this.#ssl, bio);
  }
}
