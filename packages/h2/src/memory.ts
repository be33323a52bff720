import { NativeBuffer } from "@tulle/linux";

/** Limits what may be held in memory for others (one pod's share, say). `tryTake` false: the bytes may not be held. */
export interface ByteBudget {
  tryTake(bytes: number): boolean;
  give(bytes: number): void;
}

/**
 * Enough for header blocks, control frames and small messages; also what a queue of unsent bytes grows by, and what holds
 * a TLS record of any length (RFC 8446 §5.2: 5 + 16,640 bytes).
 */
export const SMALL_BUFFER = 16_896;
/** Enough for one batch of bulk data: about sixteen TLS records, one write. */
export const LARGE_BUFFER = 262_144;

/** Free buffers that are kept for the next lease; what comes back beyond that goes to the garbage collector. */
const MAX_FREE_SMALL = 128;
const MAX_FREE_LARGE = 8;
/** What one read from a socket may be at most, behind room for a cut record: more the TLS engine takes in only by copying. */
const CIPHERTEXT_SCRATCH = SMALL_BUFFER + 131_072;
/** Takes what one read decrypts to, with what an earlier one left over. */
const PLAINTEXT_SCRATCH = 262_144;

/**
 * The memory that all connections of one data thread share: buffers that are leased only while they hold something, and
 * scratch space that holds something only during one call. Not to be shared between threads.
 */
export class ThreadMemory {
  readonly #small: NativeBuffer[] = [];
  readonly #large: NativeBuffer[] = [];
  #leased = 0;
  #ciphertext: NativeBuffer | undefined;
  #plaintext: NativeBuffer | undefined;
  #headers: Buffer = Buffer.allocUnsafeSlow(SMALL_BUFFER);

  /** Bytes that are leased now. */
  get leased(): number {
    return this.#leased;
  }

  /** Bytes that a socket has delivered; the first SMALL_BUFFER bytes are room for what an earlier read has left over. */
  get ciphertext(): NativeBuffer {
    return (this.#ciphertext ??= NativeBuffer.alloc(CIPHERTEXT_SCRATCH));
  }

  /** Bytes on their way from decryption to their consumer. */
  get plaintext(): NativeBuffer {
    return (this.#plaintext ??= NativeBuffer.alloc(PLAINTEXT_SCRATCH));
  }

  /** Space for one header block of up to `length` bytes, valid until the next call. */
  headerSpace(length: number): Buffer {
    if (this.#headers.length < length) this.#headers = Buffer.allocUnsafeSlow(length);
    return this.#headers;
  }

  /** A buffer of SMALL_BUFFER or LARGE_BUFFER bytes, the smaller one if `length` fits. Contents are arbitrary. */
  lease(length: number): NativeBuffer {
    const size = length <= SMALL_BUFFER ? SMALL_BUFFER : LARGE_BUFFER;
    this.#leased += size;
    return (size === SMALL_BUFFER ? this.#small : this.#large).pop() ?? NativeBuffer.alloc(size);
  }

  release(buffer: NativeBuffer): void {
    this.#leased -= buffer.length;
    const small = buffer.length === SMALL_BUFFER;
    const free = small ? this.#small : this.#large;
    if (free.length < (small ? MAX_FREE_SMALL : MAX_FREE_LARGE)) free.push(buffer);
  }
}
