import type { NativeBuffer } from "@tulle/linux";
import { errnoText } from "@tulle/linux";
import { closeGently, type Http2Connection, type Http2Transport, SMALL_BUFFER, type ThreadMemory } from "@tulle/h2";
import type { Connection, ConnectionHandler, Reactor, Task } from "@tulle/reactor";
import type { TlsSession } from "@tulle/tls";
import { wholeRecords } from "./tls-records.ts";

export interface TlsTransportOptions {
  readonly reactor: Reactor;
  /** Connected already. Owned from here on. */
  readonly connection: Connection;
  /** Owned from here on. */
  readonly session: TlsSession;
  readonly memory: ThreadMemory;
  /** The handshake is done: makes the HTTP/2 connection over this transport. */
  readonly onSecured: () => Http2Connection;
  /** The handshake failed, or the connection was lost during it. Not called after `onSecured`. */
  readonly onFailed: (failure: HandshakeFailure) => void;
}

export type HandshakeFailure =
  /** The session's `error` says why; our alert is on its way to the peer. */
  | { readonly kind: "tls"; readonly error: Error | undefined }
  /** -errno, or 0 for EOF. */
  | { readonly kind: "io"; readonly error: number };

const AGAIN = -11;
/** A TLS record's plaintext; with less room than this a batch is passed on. */
const RECORD = 16_384;

/**
 * One HTTP/2 connection over TLS over a socket. Ciphertext is written straight from OpenSSL's memory; when the socket does
 * not take all of it, nothing more is encrypted until it does.
 */
export class TlsTransport implements Http2Transport, ConnectionHandler, Task {
  deferred = false;
  readonly #options: TlsTransportOptions;
  readonly #connection: Connection;
  readonly #session: TlsSession;
  #http2: Http2Connection | undefined;
  /** The beginning of a record whose rest has not come yet; leased only then. */
  #cut: NativeBuffer | undefined;
  #cutLength = 0;
  /** Ciphertext waits for room in the socket. */
  #blocked = false;
  #ended = false;
  /** Why the transport is broken, told at the end of the turn, since it was found inside of whoever was sending. */
  #broken: Error | undefined;

  constructor(options: TlsTransportOptions) {
    this.#options = options;
    this.#connection = options.connection;
    this.#session = options.session;
    options.connection.setHandler(this);
  }

  /** Client: sends the first flight. Server: reads what has come already. */
  start(): void {
    this.#handshake();
    if (!this.#ended) this.onReadable();
  }

  /** Gives up during the handshake. */
  abort(): void {
    this.#close();
    this.#connection.reset();
  }

  onConnected(): void {}

  onReadable(): void {
    const { ciphertext } = this.#options.memory;
    while (!this.#ended) {
      const count = this.#connection.read(ciphertext, SMALL_BUFFER, ciphertext.length - SMALL_BUFFER);
      if (count === AGAIN) return;
      if (count <= 0) {
        this.#lost(count);
        return;
      }
      this.#take(ciphertext, count);
    }
  }

  onWritable(): void {
    if (this.#ended || !this.#push()) return;
    this.#http2?.transportWritable();
  }

  write(buffer: NativeBuffer, offset: number, length: number): number {
    if (this.#blocked || this.#broken !== undefined) return 0;
    if (this.#session.write(buffer, offset, length)) return length;
    this.#break(this.#session.error ?? new Error("encryption failed"));
    return 0;
  }

  flush(): boolean {
    return this.#push();
  }

  /** From HTTP/2: it is over. */
  end(): void {
    if (this.#ended) return;
    if (this.#connection.closed || this.#blocked || this.#broken !== undefined) {
      this.abort();
      return;
    }
    this.#session.shutdown();
    const sent = this.#push();
    this.#close();
    if (sent) closeGently(this.#connection, this.#options.reactor, this.#options.memory.ciphertext);
    else this.#connection.reset();
  }

  /** From the reactor: tells that the transport is broken. */
  run(): void {
    if (this.#ended || this.#broken === undefined) return;
    if (this.#http2 !== undefined) this.#http2.transportClosed(this.#broken);
    else this.#failed({ kind: "tls", error: this.#broken });
  }

  /**
   * Feeds whole records only: of a record that is cut, OpenSSL would take in no more than what it lacks next time, and the
   * engine would have to copy everything behind it.
   */
  #take(ciphertext: NativeBuffer, count: number): void {
    const end = SMALL_BUFFER + count;
    const start = SMALL_BUFFER - this.#cutLength;
    if (this.#cut !== undefined) {
      this.#cut.bytes.copy(ciphertext.bytes, start, 0, this.#cutLength);
      this.#dropCut();
    }
    const whole = wholeRecords(ciphertext.bytes, start, end);
    if (whole < end) this.#keep(ciphertext, whole, end);
    if (whole === start) return;
    this.#session.feed(ciphertext, start, whole - start);
    if (this.#http2 === undefined) this.#handshake();
    if (this.#http2 !== undefined && !this.#ended) this.#decrypt(this.#http2);
  }

  #keep(ciphertext: NativeBuffer, start: number, end: number): void {
    this.#cut = this.#options.memory.lease(SMALL_BUFFER);
    ciphertext.bytes.copy(this.#cut.bytes, 0, start, end);
    this.#cutLength = end - start;
  }

  #dropCut(): void {
    if (this.#cut !== undefined) this.#options.memory.release(this.#cut);
    this.#cut = undefined;
    this.#cutLength = 0;
  }

  #handshake(): void {
    const session = this.#session;
    session.handshake();
    const pushed = this.#push();
    if (this.#ended) return;
    if (session.state === "failed") {
      const { error } = session;
      this.#close();
      // The alert has gone out already, if the socket took it.
      if (pushed) closeGently(this.#connection, this.#options.reactor, this.#options.memory.ciphertext);
      else this.#connection.reset();
      this.#options.onFailed({ kind: "tls", error });
    } else if (session.state === "open") {
      this.#http2 = this.#options.onSecured();
      if (pushed) this.#http2.transportWritable();
    }
  }

  #decrypt(http2: Http2Connection): void {
    const { plaintext } = this.#options.memory;
    const session = this.#session;
    let filled = 0;
    let count: number;
    while ((count = session.read(plaintext, filled, plaintext.length - filled)) > 0) {
      filled += count;
      if (plaintext.length - filled >= RECORD) continue;
      http2.feed(plaintext, 0, filled);
      filled = 0;
      if (this.#ended) return;
    }
    if (filled > 0) http2.feed(plaintext, 0, filled);
    if (this.#ended) return;
    if (count === 0) http2.transportClosed();
    else if (count !== AGAIN) {
      const { error } = session;
      this.#push();
      http2.transportClosed(new Error(`tls error: ${error?.message ?? "decryption failed"}`));
    } else if (session.pending > 0 && !this.#blocked) this.#push();
  }

  /** Writes the waiting ciphertext; false when some is left. */
  #push(): boolean {
    const session = this.#session;
    const connection = this.#connection;
    while (session.pending > 0) {
      const { pending } = session;
      const count = connection.write(session.ciphertext, session.ciphertextOffset, pending);
      if (count > 0) session.consume(count);
      if (count === pending) continue;
      if (count < 0 && count !== AGAIN) this.#break(new Error(errnoText(-count)));
      this.#blocked = true;
      return false;
    }
    this.#blocked = false;
    return true;
  }

  #break(error: Error): void {
    if (this.#broken !== undefined) return;
    this.#broken = error;
    this.#options.reactor.defer(this);
  }

  #lost(error: number): void {
    if (this.#http2 === undefined) {
      this.#failed({ kind: "io", error });
      return;
    }
    const reason = error === 0 ? undefined : new Error(errnoText(-error));
    if (reason !== undefined) this.#broken = reason;
    this.#http2.transportClosed(reason);
  }

  #failed(failure: HandshakeFailure): void {
    this.abort();
    this.#options.onFailed(failure);
  }

  #close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#dropCut();
    this.#session.close();
  }
}
