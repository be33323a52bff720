import { MeshError, messageOf } from "@tulle/base";
import {
  type ByteBudget,
  ByteQueue,
  ErrorCode,
  type HeaderField as Http2Field,
  type Http2Error,
  type Http2Stream,
  type ResponseHead,
  type StreamHandler,
  type ThreadMemory,
} from "@tulle/h2";
import type { NativeBuffer } from "@tulle/linux";
import type { Connection, Reactor, Task } from "@tulle/reactor";
import type { TlsPeer } from "@tulle/tls";
import type { ConnectRequest, OutgoingTunnel, PoolKey, Relay, RelayEnd, TunnelHandler } from "./contract.ts";
import { http2Failed, httpStatus, streamEnded } from "./errors.ts";
import { valuesOf } from "./incoming-tunnel.ts";
import type { PooledConnection } from "./pooled-connection.ts";
import { TunnelRelay } from "./relay.ts";

export interface OutgoingTunnelOptions {
  readonly key: PoolKey;
  readonly request: ConnectRequest;
  readonly handler: TunnelHandler;
  readonly reactor: Reactor;
  readonly memory: ThreadMemory;
  readonly budget: ByteBudget | undefined;
  /** The stream was not processed by the peer: tries another connection; false when that is not possible. */
  readonly retry: (tunnel: ClientTunnel) => boolean;
  /** Nothing is waited for any more: takes the tunnel out of the line. */
  readonly cancelled: (tunnel: ClientTunnel) => void;
}

/** A tunnel may be moved to another connection so often when a server goes away before it has looked at it. */
const MAX_ATTEMPTS = 3;

/** A tunnel from `open` until it is established, refused or given up. */
export class ClientTunnel implements OutgoingTunnel, StreamHandler, Task {
  deferred = false;
  status: number | undefined;
  peer: TlsPeer | undefined;
  readonly key: PoolKey;
  readonly #options: OutgoingTunnelOptions;
  readonly #queue: ByteQueue;
  #head: ResponseHead | undefined;
  #stream: Http2Stream | undefined;
  #carrier: PooledConnection | undefined;
  #state: "waiting" | "requested" | "established" | "over" = "waiting";
  #remoteEnded = false;
  #attempts = 0;
  #failure: MeshError | undefined;

  constructor(options: OutgoingTunnelOptions) {
    this.#options = options;
    this.key = options.key;
    this.#queue = new ByteQueue(options.memory, options.budget);
  }

  get waiting(): boolean {
    return this.#state === "waiting";
  }

  headers(name: string): readonly string[] {
    return this.#head === undefined ? [] : valuesOf(this.#head.fields, name);
  }

  /** Sends the CONNECT. False when the connection takes no more tunnels. */
  request(connection: PooledConnection): boolean {
    const { authority, headers } = this.#options.request;
    const section: Http2Field[] = [[":method", "CONNECT"], [":authority", authority], ...headers];
    let stream: Http2Stream | undefined;
    try {
      stream = connection.open(section, this);
    } catch (error) {
      this.fail(http2Failed(messageOf(error)));
      return true;
    }
    if (stream === undefined) return false;
    this.#stream = stream;
    this.#carrier = connection;
    this.#state = "requested";
    this.#attempts++;
    return true;
  }

  /** Tells the handler, but not before the caller of `open` has got its tunnel. */
  fail(error: MeshError): void {
    if (this.#state === "over" || this.#failure !== undefined) return;
    this.#failure = error;
    this.#options.reactor.defer(this);
  }

  run(): void {
    if (this.#state === "over" || this.#failure === undefined) return;
    this.#state = "over";
    this.#queue.clear();
    this.#options.handler.onFailed(this, this.#failure);
  }

  cancel(): void {
    if (this.#state === "over") return;
    const waiting = this.#state === "waiting";
    this.#state = "over";
    this.#queue.clear();
    this.#stream?.reset(ErrorCode.CANCEL);
    if (waiting) this.#options.cancelled(this);
  }

  relay(application: Connection, onEnd: RelayEnd): Relay {
    if (this.#stream === undefined) throw new Error("the tunnel is not established");
    const relay = new TunnelRelay(this.#stream, application, this.#carrier!, this.#queue, onEnd);
    const established = this.#state === "established";
    this.#state = "over";
    if (established && !this.#stream.closed) relay.start(this.#remoteEnded);
    else this.#options.reactor.defer({ deferred: false, run: () => relay.peerGone() });
    return relay;
  }

  // === the stream

  onResponse(stream: Http2Stream, head: ResponseHead): void {
    if (head.status < 200 || this.#state !== "requested") return;
    this.#head = head;
    this.status = head.status;
    this.peer = this.#carrier!.peer;
    if (head.status !== 200) {
      stream.reset(ErrorCode.CANCEL);
      this.fail(httpStatus(head.status));
      return;
    }
    this.#state = "established";
    this.#options.handler.onEstablished(this);
  }

  onData(stream: Http2Stream, buffer: NativeBuffer, offset: number, length: number): void {
    if (!this.#queue.push(buffer, offset, length)) stream.reset(ErrorCode.ENHANCE_YOUR_CALM);
  }

  onEnd(): void {
    this.#remoteEnded = true;
  }

  onReset(_stream: Http2Stream, error: Http2Error): void {
    // Established, but not relayed yet: `relay` finds the stream closed.
    if (this.#state !== "requested" || this.#failure !== undefined) return;
    const lost = this.#carrier!.retired && !error.remote;
    const unprocessed = error.remote && (error.code === ErrorCode.REFUSED_STREAM || this.#carrier!.ended);
    if (unprocessed && this.#carrier!.reason === undefined && this.#attempts < MAX_ATTEMPTS) {
      this.#state = "waiting";
      this.#stream = undefined;
      if (this.#options.retry(this)) return;
    }
    const reason = this.#carrier!.reason ?? streamEnded(error, lost || this.#carrier!.ended, "upstream");
    this.fail(reason ?? connectReset());
  }

  onSendable(): void {}
}

function connectReset(): MeshError {
  return new MeshError("io error: the peer has reset the tunnel", { code: "CONNECT_FAILED", side: "upstream" });
}
