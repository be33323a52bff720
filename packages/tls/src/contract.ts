import type { Identity } from "@tulle/base";
import type { NativeBuffer } from "@tulle/linux";

/** What a workload presents and trusts. Key bytes are zeroed by `TlsContext.create` after they were parsed. */
export interface IdentityMaterial {
  /** Leaf first, then intermediates. */
  readonly certificateChainPem: string;
  /** PKCS #8, DER. */
  readonly privateKey: Uint8Array;
  /** One or more roots. */
  readonly rootsPem: string;
}

/** Whom the other side must be. Checked inside the handshake, so that the peer gets an alert. */
export type PeerRequirement =
  /** Server side: the client's trust domain must be this one. */
  | { readonly kind: "trust-domain"; readonly trustDomain: string }
  /** Client side: the leaf must hold one of these SPIFFE URIs. An empty list never matches. */
  | { readonly kind: "identities"; readonly uris: readonly string[] };

/** The verified peer; present once the handshake is done. */
export interface TlsPeer {
  /** The first URI SAN that parses as a SPIFFE identity. */
  readonly identity: Identity;
  /** End of the leaf's validity, ms since the epoch. */
  readonly notAfter: number;
}

/**
 * One TLS 1.3 connection without a socket: ciphertext goes in by `feed`, comes out by `ciphertext`; plaintext goes in by
 * `write`, comes out by `read`. Nothing throws for what a peer may cause: a failure is a state with an `error`.
 */
export interface TlsSession {
  readonly state: "handshaking" | "open" | "failed" | "closed";
  /** Why the state is "failed": a MeshError whose code is a `TlsErrorCode` and whose text is our own. */
  readonly error: Error | undefined;
  /** Present from the state "open" on; gone after a failure. */
  readonly peer: TlsPeer | undefined;
  /**
   * Takes in ciphertext that the peer has sent; the memory may be used again at once. Cheapest with whole records that are
   * then read until AGAIN: nothing is copied for them. Throws RangeError when 4 MiB wait that nobody has read.
   */
  feed(buffer: NativeBuffer, offset: number, length: number): void;
  /** Goes on with the handshake as far as it gets; afterwards look at `state` and send `ciphertext`. */
  handshake(): void;
  /** `length` is at least 1. Plaintext bytes, AGAIN (-11) when more ciphertext is needed, 0 after the peer's close_notify, -1 after a failure. */
  read(buffer: NativeBuffer, offset: number, length: number): number;
  /**
   * Encrypts all of it; returns false after a failure or a shutdown. Throws RangeError for more than 4 MiB, or when more
   * than 16 MiB of ciphertext wait already: send first.
   */
  write(buffer: NativeBuffer, offset: number, length: number): boolean;
  /** Queues close_notify. */
  shutdown(): void;
  /** Bytes of ciphertext that wait to be sent. */
  readonly pending: number;
  /** The waiting ciphertext, to be written from `ciphertextOffset` for `pending` bytes; valid until the next call on this session. */
  readonly ciphertext: NativeBuffer;
  readonly ciphertextOffset: number;
  /** Drops the first `length` bytes of the waiting ciphertext: they were sent. */
  consume(length: number): void;
  /** Frees everything native. Idempotent; every later call is refused by an Error. */
  close(): void;
}
