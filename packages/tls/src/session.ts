import type { MeshError } from "@tulle/base";
import type { NativeBuffer } from "@tulle/linux";
import { SSL_ERROR_WANT_READ, SSL_ERROR_ZERO_RETURN } from "./constants.ts";
import type { PeerRequirement, TlsPeer, TlsSession } from "./contract.ts";
import { type HandshakeJudgement, runHandshake } from "./handshake-callbacks.ts";
import { Backlog, inputWindow } from "./input.ts";
import { born, freed } from "./ledger.ts";
import { openssl, type Pointer } from "./openssl.ts";
import { giveOutput, type OutputBuffer, takeOutput } from "./output-buffer.ts";
import { drainErrors, forgetErrors, sessionError, tlsError } from "./tls-error.ts";

/** The same number as the reactor's. */
const AGAIN = -11;
/** Bytes a peer may send before its handshake is done: certificates of 100 KiB (OpenSSL's own limit) and then some. */
const MAX_HANDSHAKE_BYTES = 128 << 10;
/** Ciphertext that may wait to be read; a caller that feeds more without reading has no backpressure. */
const MAX_BACKLOG_BYTES = 4 << 20;
/** Plaintext of one `write`, and ciphertext that may wait to be sent: the same for the other direction. */
const MAX_WRITE_BYTES = 4 << 20;
const MAX_PENDING_BYTES = 16 << 20;

export interface SessionOptions {
  /** An SSL_CTX; the session takes its own reference. */
  readonly context: Pointer;
  readonly isServer: boolean;
  readonly requirement: PeerRequirement;
}

/** A `TlsSession` over OpenSSL. Made by `TlsContext`. */
export class OpenSslSession implements TlsSession {
  readonly #ssl: Pointer;
  readonly #judgement: HandshakeJudgement;
  #state: TlsSession["state"] = "handshaking";
  #error: MeshError | undefined;
  /** Holds ciphertext of this session; undefined while there is none. */
  #output: OutputBuffer | undefined;
  /** The buffer that SSL writes into. It may hold another session's bytes: `#attach` before every call that can write. */
  #attached: OutputBuffer | undefined;
  #backlog: Backlog | undefined;
  #backlogBytes = 0;
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
    this.#readFrom(inputWindow().bio);
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
      this.#handshakeBytes += length;
      if (this.#handshakeBytes > MAX_HANDSHAKE_BYTES) {
        const limit = `${MAX_HANDSHAKE_BYTES >> 10} KiB`;
        this.#fail(
          this.#protocolError(`TLS handshake failed: the peer has sent more than ${limit} without finishing it`),
        );
        return;
      }
    }
    if (this.#state === "handshaking" || this.#backlog !== undefined) this.#keep(buffer, offset, length);
    else this.#takeIn(buffer, offset, length);
  }

  handshake(): void {
    this.#assertOpen();
    if (this.#state !== "handshaking") return;
    const ssl = openssl();
    const output = this.#attach();
    forgetErrors();
    const result = runHandshake(this.#judgement);
    const reason = result === 1 ? 0 : ssl.SSL_get_error(this.#ssl, result);
    this.#settle(output);
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
    const output = this.#attach();
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
    this.#settle(output);
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
    const output = this.#attach();
    forgetErrors();
    const written = ssl.SSL_write(this.#ssl, buffer.pointerAt(offset), length);
    this.#settle(output);
    if (written === length) return true;
    this.#failWithQueued();
    return false;
  }

  shutdown(): void {
    this.#assertOpen();
    if (this.#state !== "open" || this.#shutdownSent) return;
    this.#shutdownSent = true;
    const ssl = openssl();
    const output = this.#attach();
    forgetErrors();
    // 0: sent, the peer's close_notify is still to come.
    if (ssl.SSL_shutdown(this.#ssl) < 0) drainErrors();
    this.#settle(output);
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
    this.#assertOpen();
    const output = this.#output;
    if (!(Number.isInteger(length) && length >= 0 && length <= this.pending)) {
      throw new RangeError(`cannot consume ${length} of ${this.pending} bytes of ciphertext`);
    }
    if (output === undefined) return;
    output.sent += length;
    if (output.pending > 0) return;
    this.#output = undefined;
    giveOutput(output);
  }

  close(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    if (this.#output !== undefined) giveOutput(this.#output);
    this.#output = undefined;
    this.#attached = undefined;
    openssl().SSL_free(this.#ssl);
    freed("session");
    this.#backlog?.free();
    this.#backlog = undefined;
  }

  /** Ciphertext goes through OpenSSL's own read buffer: what it takes in one go is not copied by us. */
  #takeIn(buffer: NativeBuffer, offset: number, length: number): void {
    const window = inputWindow();
    const ssl = openssl();
    const output = this.#attach();
    forgetErrors();
    window.open(buffer, offset, length);
    this.#dry = false;
    // A peek of no bytes reads ahead and opens the first record, but takes nothing out.
    const result = ssl.SSL_peek(this.#ssl, buffer.pointer, 0);
    if (result < 0) this.#readStopped(result, false);
    this.#settle(output);
    const left = window.left;
    window.shut();
    if (left > 0 && this.#state === "open") this.#keep(buffer, offset + length - left, left);
  }

  /** Copies ciphertext that cannot be read yet. */
  #keep(buffer: NativeBuffer, offset: number, length: number): void {
    this.#backlogBytes += length;
    if (this.#backlogBytes > MAX_BACKLOG_BYTES) {
      throw new RangeError("a TLS session was fed 4 MiB that nobody has read: stop reading from its socket");
    }
    if (this.#backlog === undefined) {
      this.#backlog = new Backlog();
      this.#readFrom(this.#backlog.bio);
    }
    this.#dry = false;
    if (!this.#backlog.add(buffer, offset, length)) this.#failWithQueued();
  }

  /** SSL_read or SSL_peek gave nothing: for now, for ever, or because something is wrong. */
  #readStopped(result: number, behindPlaintext: boolean): void {
    const reason = openssl().SSL_get_error(this.#ssl, result);
    if (reason === SSL_ERROR_WANT_READ) {
      this.#dry = true;
      this.#dropBacklog();
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

  /** Everything in it was read: later ciphertext need not be copied. */
  #dropBacklog(): void {
    if (this.#backlog === undefined) return;
    this.#readFrom(inputWindow().bio);
    this.#backlog.free();
    this.#backlog = undefined;
    this.#backlogBytes = 0;
  }

  #readFrom(bio: Pointer): void {
    const ssl = openssl();
    ssl.BIO_up_ref(bio);
    ssl.SSL_set0_rbio(this.#ssl, bio);
  }

  /** Lets OpenSSL write into a buffer that holds nothing but bytes of this session. */
  #attach(): OutputBuffer {
    let output = this.#output;
    if (output === undefined) output = takeOutput();
    else output.compact();
    if (output !== this.#attached) {
      const ssl = openssl();
      ssl.BIO_up_ref(output.bio);
      ssl.SSL_set0_wbio(this.#ssl, output.bio);
      this.#attached = output;
    }
    this.#output = output;
    return output;
  }

  /** After the call: a buffer that stayed empty goes back to the thread. */
  #settle(output: OutputBuffer): void {
    if (output.length > 0) return;
    this.#output = undefined;
    giveOutput(output);
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
    this.#dropBacklog();
  }

  #assertOpen(): void {
    if (this.#state === "closed") throw new Error("a closed TLS session was used");
  }
}
