import type { MeshError } from "@tulle/base";
import type { NativeBuffer } from "@tulle/linux";
import { SSL_ERROR_WANT_READ, SSL_ERROR_ZERO_RETURN, SSL_KEY_UPDATE_NOT_REQUESTED } from "./constants.ts";
import type { PeerRequirement, TlsPeer, TlsSession } from "./contract.ts";
import { type HandshakeJudgement, runHandshake } from "./handshake-callbacks.ts";
import { inputWindow } from "./input.ts";
import { born, freed } from "./ledger.ts";
import { openssl, type Pointer } from "./openssl.ts";
import { SessionBuffers } from "./session-buffers.ts";
import { drainErrors, forgetErrors, sessionError, tlsError } from "./tls-error.ts";

/** The same number as the reactor's. */
const AGAIN = -11;
/**
 * A handshake that needs more is none: certificates may have 100 KiB (OpenSSL's own limit). What comes together with the
 * last flight does not count, since a client may send data right behind it.
 */
const MAX_HANDSHAKE_BYTES = 128 << 10;
/** Plaintext of one `write`, and ciphertext that may wait to be sent: the same for the other direction. */
const MAX_WRITE_BYTES = 4 << 20;
const MAX_PENDING_BYTES = 16 << 20;
/** The most plaintext that a record holds (RFC 8446 §5.1). */
const RECORD_BYTES = 16_384;
/** AES-GCM is safe for 2^24.5 records under one key (RFC 8446 §5.5); OpenSSL does not count. 2^22 full ones are 64 GiB. */
const RECORDS_PER_KEY = 2 ** 22;

export interface SessionOptions {
  /** An SSL_CTX; the session takes its own reference. */
  readonly context: Pointer;
  readonly isServer: boolean;
  readonly requirement: PeerRequirement;
  /** Records written under one key before the next one is taken. Default 2^22. */
  readonly recordsPerKey?: number | undefined;
}

/** A `TlsSession` over OpenSSL. Made by `TlsContext`. */
export class OpenSslSession implements TlsSession {
  readonly #ssl: Pointer;
  readonly #judgement: HandshakeJudgement;
  readonly #recordsPerKey: number;
  #records = 0;
  #state: TlsSession["state"] = "handshaking";
  #error: MeshError | undefined;
  readonly #buffers: SessionBuffers;
  #handshakeBytes = 0;
  /** Nothing to read before the next `feed`. */
  #dry = false;
  #peerClosed = false;
  #shutdownSent = false;
  /** A failure behind plaintext that was handed out: comes up with the next `read`. */
  #lateError: MeshError | undefined;

  constructor(options: SessionOptions) {
    const ssl = openssl();
    this.#ssl = ssl.SSL_new(options.context);
    if (this.#ssl === 0n) {
      throw tlsError(
        "TLS_INTERNAL",
        "internal",
        `cannot make a TLS session: ${drainErrors()?.text ?? "out of memory"}`,
      );
    }
    born("session");
    if (options.isServer) ssl.SSL_set_accept_state(this.#ssl);
    else ssl.SSL_set_connect_state(this.#ssl);
    this.#buffers = new SessionBuffers(this.#ssl);
    this.#recordsPerKey = options.recordsPerKey ?? RECORDS_PER_KEY;
    this.#judgement = {
      ssl: this.#ssl,
      isServer: options.isServer,
      side: options.isServer ? "downstream" : "upstream",
      requirement: options.requirement,
      peer: undefined,
      refusal: undefined,
    };
  }

  get state(): TlsSession["state"] {
    return this.#state;
  }

  get error(): MeshError | undefined {
    return this.#error;
  }

  get peer(): TlsPeer | undefined {
    return this.#state === "handshaking" ? undefined : this.#judgement.peer;
  }

  feed(buffer: NativeBuffer, offset: number, length: number): void {
    this.#assertOpen();
    buffer.check(offset, length);
    if (length === 0 || this.#state === "failed" || this.#peerClosed) return;
    if (this.#state === "handshaking") {
      if (this.#handshakeBytes > MAX_HANDSHAKE_BYTES) {
        const limit = `more than ${MAX_HANDSHAKE_BYTES >> 10} KiB`;
        this.#fail(this.#protocolError(`TLS handshake failed: the peer has sent ${limit} without finishing it`));
        return;
      }
      this.#handshakeBytes += length;
    }
    if (this.#state === "handshaking" || this.#buffers.hasBacklog) this.#keep(buffer, offset, length);
    else this.#takeIn(buffer, offset, length);
  }

  handshake(): void {
    this.#assertOpen();
    if (this.#state !== "handshaking") return;
    const ssl = openssl();
    this.#buffers.attach();
    forgetErrors();
    const result = runHandshake(this.#judgement);
    const reason = result === 1 ? 0 : ssl.SSL_get_error(this.#ssl, result);
    this.#buffers.settle();
    if (result === 1) this.#finishHandshake();
    else if (reason !== SSL_ERROR_WANT_READ) this.#failWithQueued();
  }

  read(buffer: NativeBuffer, offset: number, length: number): number {
    this.#assertOpen();
    buffer.check(offset, length);
    if (length === 0) throw new RangeError("a read of 0 bytes cannot tell plaintext from the end");
    if (this.#lateError !== undefined) this.#fail(this.#lateError);
    if (this.#state === "failed") return -1;
    if (this.#peerClosed) return 0;
    if (this.#dry || this.#state === "handshaking") return AGAIN;

    const ssl = openssl();
    this.#buffers.attach();
    forgetErrors();
    let got = 0;
    while (got < length) {
      const count = ssl.SSL_read(this.#ssl, buffer.pointerAt(offset + got), length - got);
      if (count <= 0) {
        this.#readStopped(count, got > 0);
        break;
      }
      got += count;
    }
    this.#buffers.settle();
    if (got > 0) return got;
    if (this.#peerClosed) return 0;
    return this.#state === "open" ? AGAIN : -1;
  }

  write(buffer: NativeBuffer, offset: number, length: number): boolean {
    this.#assertOpen();
    buffer.check(offset, length);
    if (this.#state === "handshaking") throw new Error("a TLS session cannot write before its handshake is done");
    if (length > MAX_WRITE_BYTES || this.pending > MAX_PENDING_BYTES) {
      throw new RangeError(`a TLS write of ${length} bytes with ${this.pending} pending: send what is pending first`);
    }
    if (this.#state === "failed" || this.#shutdownSent) return false;
    if (length === 0) return true;
    const ssl = openssl();
    this.#buffers.attach();
    forgetErrors();
    this.#records += Math.ceil(length / RECORD_BYTES);
    if (this.#records > this.#recordsPerKey) {
      this.#records = 0;
      ssl.SSL_key_update(this.#ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
    }
    const written = ssl.SSL_write(this.#ssl, buffer.pointerAt(offset), length);
    this.#buffers.settle();
    if (written === length) return true;
    this.#failWithQueued();
    return false;
  }

  shutdown(): void {
    this.#assertOpen();
    if (this.#state !== "open" || this.#shutdownSent) return;
    this.#shutdownSent = true;
    const ssl = openssl();
    this.#buffers.attach();
    forgetErrors();
    // 0: sent, the peer's close_notify is still to come.
    if (ssl.SSL_shutdown(this.#ssl) < 0) drainErrors();
    this.#buffers.settle();
  }

  get pending(): number {
    return this.#buffers.pending;
  }

  get ciphertext(): NativeBuffer {
    return this.#buffers.ciphertext;
  }

  get ciphertextOffset(): number {
    return this.#buffers.ciphertextOffset;
  }

  consume(length: number): void {
    this.#assertOpen();
    this.#buffers.consume(length);
  }

  close(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    openssl().SSL_free(this.#ssl);
    freed("session");
    this.#buffers.free();
  }

  /** Ciphertext goes through OpenSSL's own read buffer: what it takes in one go is not copied by us. */
  #takeIn(buffer: NativeBuffer, offset: number, length: number): void {
    const window = inputWindow();
    this.#buffers.attach();
    forgetErrors();
    this.#dry = false;
    let left = 0;
    window.open(buffer, offset, length);
    try {
      // A peek of no bytes reads ahead and opens the first record, but takes nothing out.
      const result = openssl().SSL_peek(this.#ssl, buffer.pointer, 0);
      if (result < 0) this.#readStopped(result, false);
      left = window.left;
    } finally {
      window.shut();
    }
    this.#buffers.settle();
    if (left > 0 && this.#state === "open") this.#keep(buffer, offset + length - left, left);
  }

  #keep(buffer: NativeBuffer, offset: number, length: number): void {
    this.#dry = false;
    if (!this.#buffers.keep(buffer, offset, length)) this.#failWithQueued();
  }

  /** SSL_read or SSL_peek gave nothing: for now, for ever, or because something is wrong. */
  #readStopped(result: number, behindPlaintext: boolean): void {
    const reason = openssl().SSL_get_error(this.#ssl, result);
    if (reason === SSL_ERROR_WANT_READ) {
      this.#dry = true;
      this.#buffers.dropBacklog();
      return;
    }
    if (reason === SSL_ERROR_ZERO_RETURN) {
      this.#peerClosed = true;
      return;
    }
    const error = sessionError(drainErrors(), this.#judgement.side, false);
    if (behindPlaintext) this.#lateError = error;
    else this.#fail(error);
  }

  #finishHandshake(): void {
    if (this.#judgement.peer === undefined) {
      this.#fail(
        tlsError("NO_PEER_CERTIFICATE", this.#judgement.side, "TLS handshake failed: the peer was not verified"),
      );
      return;
    }
    this.#state = "open";
  }

  #failWithQueued(): void {
    const queued = drainErrors();
    const { refusal, side } = this.#judgement;
    this.#fail(refusal ?? sessionError(queued, side, this.#state === "handshaking"));
  }

  #protocolError(message: string): MeshError {
    return tlsError("PROTOCOL_ERROR", this.#judgement.side, message);
  }

  #fail(error: MeshError): void {
    this.#state = "failed";
    this.#error = error;
    this.#judgement.peer = undefined;
    this.#buffers.dropBacklog();
  }

  #assertOpen(): void {
    if (this.#state === "closed") throw new Error("a closed TLS session was used");
  }
}
