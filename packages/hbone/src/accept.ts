import { MeshError, type SocketAddress } from "@tulle/base";
import {
  type ByteBudget,
  type ConnectionHandler,
  ErrorCode,
  Http2Connection,
  Http2Error,
  type Http2Stream,
  type RequestHead,
  type ThreadMemory,
} from "@tulle/h2";
import { errnoText } from "@tulle/linux";
import type { Connection, Reactor, Timer } from "@tulle/reactor";
import type { TlsPeer, TlsSession } from "@tulle/tls";
import type { ServerConnection, ServerConnectionHandler } from "./contract.ts";
import { http2Broken, http2Failed, ioError, tlsFailed } from "./errors.ts";
import { ServerTunnel } from "./incoming-tunnel.ts";
import { HANDSHAKE_DEADLINE_MS, type Http2Sizes, http2Limits, threadMemory } from "./options.ts";
import type { TunnelCarrier } from "./relay.ts";
import { type HandshakeFailure, TlsTransport } from "./tls-transport.ts";

export interface AcceptOptions {
  readonly reactor: Reactor;
  /** Accepted on 15008. Owned from here on. */
  readonly connection: Connection;
  /** A server session. Owned from here on. */
  readonly session: TlsSession;
  /** Until the first CONNECT, ms. Default 10 s. */
  readonly authenticationDeadlineMs?: number;
  readonly http2?: Partial<Http2Sizes>;
  /** Tunnels at a time on this connection; announced to the peer. Default 200. */
  readonly maxTunnels?: number;
  /** Limits what is held for applications that do not read. */
  readonly budget?: ByteBudget;
  /** Default: the thread's. */
  readonly memory?: ThreadMemory;
}

/** A server must announce at least what other proxies' pools assume, which is 100 (spec: l4-ztunnel §2.7). */
const MAX_TUNNELS = 200;

/** Serves HBONE on an accepted connection: TLS, HTTP/2, tunnels. The handler is never called inside this call. */
export function acceptHbone(options: AcceptOptions, handler: ServerConnectionHandler): ServerConnection {
  return new HboneServer(options, handler);
}

class HboneServer implements ServerConnection, ConnectionHandler, TunnelCarrier {
  readonly remote: SocketAddress;
  readonly side = "downstream";
  readonly applicationReset = ErrorCode.CONNECT_ERROR;
  peer: TlsPeer | undefined;
  reason: MeshError | undefined;
  readonly #options: AcceptOptions;
  readonly #handler: ServerConnectionHandler;
  readonly #memory: ThreadMemory;
  readonly #transport: TlsTransport;
  readonly #local: SocketAddress;
  #http2: Http2Connection | undefined;
  #deadline: Timer | undefined;
  #draining = false;
  #over = false;

  constructor(options: AcceptOptions, handler: ServerConnectionHandler) {
    const { reactor, connection, session, memory = threadMemory() } = options;
    this.#options = options;
    this.#handler = handler;
    this.#memory = memory;
    this.remote = connection.peer;
    this.#local = connection.local;
    this.#transport = new TlsTransport({
      reactor,
      connection,
      session,
      memory,
      onSecured: () => this.#secured(),
      onFailed: (failure) => this.#handshakeFailed(failure),
    });
    this.#deadline = reactor.after(options.authenticationDeadlineMs ?? HANDSHAKE_DEADLINE_MS, () => this.#tooLate());
    connection.resumeReading();
  }

  drain(): void {
    this.#draining = true;
    this.#http2?.drain();
  }

  close(error: MeshError): void {
    if (this.#over) return;
    this.reason = error;
    if (this.#http2 !== undefined) {
      this.#http2.fail(new Http2Error(ErrorCode.NO_ERROR, error.message));
      return;
    }
    this.#transport.abort();
    this.#end(error);
  }

  // === HTTP/2

  onReady(connection: Http2Connection): void {
    if (this.#draining) connection.drain();
  }

  onRequest(stream: Http2Stream, head: RequestHead): void {
    this.#deadline?.cancel();
    this.#deadline = undefined;
    const { reactor, budget } = this.#options;
    const tunnel = new ServerTunnel({
      stream,
      head,
      peer: this.peer!,
      remote: this.remote,
      local: this.#local,
      carrier: this,
      reactor,
      memory: this.#memory,
      budget,
    });
    stream.handler = tunnel;
    this.#handler.onTunnel(tunnel);
  }

  onStreamClosed(): void {}

  onGoAway(): void {}

  onClosed(connection: Http2Connection, error: Http2Error | undefined): void {
    if (error === undefined || this.reason !== undefined) this.#end(this.reason);
    else if (!connection.ready) this.#end(http2Failed(error.message, this.side));
    else this.#end(error.remote ? ioError(error.message, this.side) : http2Broken(error.message, this.side));
  }

  #secured(): Http2Connection {
    const { reactor, session, http2, maxTunnels = MAX_TUNNELS } = this.#options;
    this.peer = session.peer;
    this.#http2 = new Http2Connection({
      role: "server",
      memory: this.#memory,
      timers: reactor,
      transport: this.#transport,
      handler: this,
      limits: http2Limits(http2, maxTunnels),
    });
    return this.#http2;
  }

  #handshakeFailed(failure: HandshakeFailure): void {
    if (failure.kind === "tls") this.#end(tlsFailed(failure.error, this.side));
    else this.#end(ioError(failure.error === 0 ? "unexpected end of file" : errnoText(-failure.error), this.side));
  }

  #tooLate(): void {
    if (this.#http2 === undefined) this.close(tlsFailed(new Error("the handshake took too long"), this.side));
    else this.close(http2Failed("no CONNECT came in time", this.side));
  }

  #end(error: MeshError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#deadline?.cancel();
    this.#handler.onClosed(this, error);
  }
}
