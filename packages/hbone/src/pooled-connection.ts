import type { MeshError } from "@tulle/base";
import {
  type ConnectionHandler as Http2Handler,
  ErrorCode,
  Http2Connection,
  Http2Error,
  type Http2Limits,
  type Http2Stream,
  type HeaderField,
  type StreamHandler,
  type ThreadMemory,
} from "@tulle/h2";
import { errnoText } from "@tulle/linux";
import type { Connection, ConnectionHandler, ConnectOptions, Reactor, Timer } from "@tulle/reactor";
import type { TlsPeer, TlsSession } from "@tulle/tls";
import { connectFailed, connectTimeout, http2Broken, http2Failed, ioError, tlsFailed } from "./errors.ts";
import type { TunnelCarrier } from "./relay.ts";
import { type HandshakeFailure, TlsTransport } from "./tls-transport.ts";

export interface PooledConnectionOptions {
  readonly reactor: Reactor;
  readonly connect: ConnectOptions;
  readonly session: TlsSession;
  readonly memory: ThreadMemory;
  readonly limits: Partial<Http2Limits>;
  readonly connectTimeoutMs: number;
  /** From connect to the server's SETTINGS. */
  readonly handshakeDeadlineMs: number;
  readonly events: PooledConnectionEvents;
}

export interface PooledConnectionEvents {
  /** The server's SETTINGS are there: it has accepted our certificate, tunnels may be opened. */
  onReady(connection: PooledConnection): void;
  /** It can take another tunnel, or one less is open. */
  onTunnelClosed(connection: PooledConnection): void;
  /** Once. `error` is undefined after an orderly end. Not called inside the constructor. */
  onEnded(connection: PooledConnection, error: MeshError | undefined): void;
}

/** One outbound HBONE connection from connect to its end. */
export class PooledConnection implements ConnectionHandler, Http2Handler, TunnelCarrier {
  readonly side = "upstream";
  readonly applicationReset = ErrorCode.CANCEL;
  reason: MeshError | undefined;
  peer: TlsPeer | undefined;
  /** When the last tunnel was closed, in the reactor's time. */
  idleSince: number;
  readonly createdAt: number;
  readonly #options: PooledConnectionOptions;
  readonly #connection: Connection;
  #transport: TlsTransport | undefined;
  #http2: Http2Connection | undefined;
  #timer: Timer | undefined;
  #ready = false;
  #over = false;

  constructor(options: PooledConnectionOptions) {
    const { reactor, connect, connectTimeoutMs } = options;
    this.#options = options;
    this.createdAt = reactor.now();
    this.idleSince = this.createdAt;
    this.#connection = reactor.connect(connect, this);
    this.#timer = reactor.after(connectTimeoutMs, () => this.close(connectTimeout("deadline has elapsed")));
  }

  get ready(): boolean {
    return this.#ready && !this.#over;
  }

  get tunnels(): number {
    return this.#http2?.streams.size ?? 0;
  }

  /** Whether another tunnel may be opened now. */
  get hasRoom(): boolean {
    return this.ready && this.#http2!.canOpen;
  }

  /** It is over. */
  get ended(): boolean {
    return this.#over || (this.#http2?.closed ?? false);
  }

  /** No more tunnels will ever be opened here. */
  get retired(): boolean {
    return this.#over || (this.#http2?.goingAway ?? false);
  }

  open(section: readonly HeaderField[], handler: StreamHandler): Http2Stream | undefined {
    return this.#http2?.open(section, false, handler);
  }

  /** Ends with the last tunnel. */
  retire(): void {
    this.#http2?.drain();
  }

  /** Ends now; tunnels get `error`. */
  close(error: MeshError): void {
    if (this.#over) return;
    this.reason = error;
    if (this.#http2 !== undefined) {
      this.#http2.fail(new Http2Error(ErrorCode.NO_ERROR, error.message));
      return;
    }
    if (this.#transport !== undefined) this.#transport.abort();
    else {
      this.#options.session.close();
      this.#connection.reset();
    }
    this.#end(error);
  }

  // === TCP

  onConnected(connection: Connection, error: number): void {
    if (this.#over) return;
    if (error !== 0) {
      this.#options.session.close();
      this.#end(connectFailed(error));
      return;
    }
    const { reactor, session, memory, handshakeDeadlineMs } = this.#options;
    this.#timer?.cancel();
    const left = Math.max(0, this.createdAt + handshakeDeadlineMs - reactor.now());
    this.#timer = reactor.after(left, () => this.#handshakeTooLate());
    this.#transport = new TlsTransport({
      reactor,
      connection,
      session,
      memory,
      onSecured: () => this.#secured(),
      onFailed: (failure) => this.#handshakeFailed(failure),
    });
    this.#transport.start();
  }

  onReadable(): void {}

  onWritable(): void {}

  // === HTTP/2

  onReady(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#ready = true;
    this.#options.events.onReady(this);
  }

  onRequest(stream: Http2Stream): void {
    stream.reset(ErrorCode.REFUSED_STREAM);
  }

  onStreamClosed(): void {
    if (this.tunnels === 0) this.idleSince = this.#options.reactor.now();
    this.#options.events.onTunnelClosed(this);
  }

  onGoAway(): void {}

  onClosed(_connection: Http2Connection, error: Http2Error | undefined): void {
    if (this.reason !== undefined) this.#end(this.reason);
    else if (!this.#ready) this.#end(this.#failedBeforeReady(error));
    else if (error === undefined) this.#end(undefined);
    else this.#end(error.remote ? ioError(error.message) : http2Broken(error.message, this.side));
  }

  #secured(): Http2Connection {
    const { reactor, session, memory, limits } = this.#options;
    this.peer = session.peer;
    this.#http2 = new Http2Connection({
      role: "client",
      memory,
      timers: reactor,
      transport: this.#transport!,
      handler: this,
      limits,
    });
    return this.#http2;
  }

  /** In TLS 1.3 the server judges our certificate after we think that the handshake is done. */
  #failedBeforeReady(error: Http2Error | undefined): MeshError {
    if (error === undefined) return tlsFailed(new Error(CLOSED_AT_ONCE));
    const { message } = error;
    return message.startsWith(TLS_PREFIX)
      ? tlsFailed(new Error(message.slice(TLS_PREFIX.length)))
      : http2Failed(message);
  }

  #handshakeFailed(failure: HandshakeFailure): void {
    if (failure.kind === "tls") this.#end(tlsFailed(failure.error));
    else this.#end(tlsFailed(new Error(failure.error === 0 ? "unexpected end of file" : errnoText(-failure.error))));
  }

  #handshakeTooLate(): void {
    if (this.#http2 === undefined) this.close(tlsFailed(new Error("the handshake took too long")));
    else this.close(http2Failed("no SETTINGS came in time"));
  }

  #end(error: MeshError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.cancel();
    this.#options.events.onEnded(this, error);
  }
}

/** What the transport puts before the TLS engine's text. */
const TLS_PREFIX = "tls error: ";
const CLOSED_AT_ONCE = "the peer closed right after the handshake; it may not accept our certificate";
