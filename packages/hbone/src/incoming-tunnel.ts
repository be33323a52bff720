import { type MeshError, messageOf, type SocketAddress } from "@tulle/base";
import {
  type ByteBudget,
  ByteQueue,
  ErrorCode,
  type Http2Stream,
  type RequestHead,
  type StreamHandler,
  type ThreadMemory,
} from "@tulle/h2";
import type { NativeBuffer } from "@tulle/linux";
import type { Connection, Reactor } from "@tulle/reactor";
import type { TlsPeer } from "@tulle/tls";
import type { HeaderField, IncomingTunnel, Relay, RelayEnd } from "./contract.ts";
import { http2Broken } from "./errors.ts";
import { type TunnelCarrier, TunnelRelay } from "./relay.ts";

export interface IncomingTunnelOptions {
  readonly stream: Http2Stream;
  readonly head: RequestHead;
  readonly peer: TlsPeer;
  readonly remote: SocketAddress;
  readonly local: SocketAddress;
  readonly carrier: TunnelCarrier;
  readonly reactor: Reactor;
  readonly memory: ThreadMemory;
  readonly budget: ByteBudget | undefined;
}

/** A request on a server connection until it is accepted or rejected; what the peer sends meanwhile waits in a queue. */
export class ServerTunnel implements IncomingTunnel, StreamHandler {
  readonly method: string;
  readonly authority: string | undefined;
  readonly peer: TlsPeer;
  readonly remote: SocketAddress;
  readonly local: SocketAddress;
  onCancelled: (() => void) | undefined;
  readonly #options: IncomingTunnelOptions;
  readonly #queue: ByteQueue;
  #remoteEnded = false;
  #settled = false;

  constructor(options: IncomingTunnelOptions) {
    const { head, peer, remote, local, memory, budget } = options;
    this.#options = options;
    this.method = head.method;
    this.authority = head.authority;
    this.peer = peer;
    this.remote = remote;
    this.local = local;
    this.#queue = new ByteQueue(memory, budget);
  }

  headers(name: string): readonly string[] {
    return valuesOf(this.#options.head.fields, name);
  }

  reject(status: number): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#queue.clear();
    const { stream } = this.#options;
    stream.respond(status, [], true);
    // Tells a peer that still wants to send that nobody listens (RFC 9113 §8.1).
    stream.reset(ErrorCode.NO_ERROR);
  }

  accept(headers: readonly HeaderField[], application: Connection, onEnd: RelayEnd): Relay {
    const { stream, carrier } = this.#options;
    const relay = new TunnelRelay(stream, application, carrier, this.#queue, onEnd);
    if (this.#settled || stream.closed) {
      this.#endLater(relay, undefined);
      return relay;
    }
    this.#settled = true;
    try {
      stream.respond(200, headers);
    } catch (error) {
      stream.reset(ErrorCode.INTERNAL_ERROR);
      this.#endLater(relay, http2Broken(messageOf(error), "internal"));
      return relay;
    }
    relay.start(this.#remoteEnded);
    return relay;
  }

  onResponse(): void {}

  onData(_stream: Http2Stream, buffer: NativeBuffer, offset: number, length: number): void {
    if (this.#queue.push(buffer, offset, length)) return;
    this.#options.stream.reset(ErrorCode.ENHANCE_YOUR_CALM);
    this.#cancel();
  }

  onEnd(): void {
    this.#remoteEnded = true;
  }

  onReset(): void {
    this.#cancel();
  }

  onSendable(): void {}

  #cancel(): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#queue.clear();
    this.onCancelled?.();
  }

  /** The relay cannot begin: it ends, but not before its owner has got it. */
  #endLater(relay: TunnelRelay, error: MeshError | undefined): void {
    this.#options.reactor.defer({ deferred: false, run: () => relay.peerGone(error) });
  }
}

export function valuesOf(
  fields: readonly (readonly [name: string, value: string, ...rest: unknown[]])[],
  name: string,
): string[] {
  const values: string[] = [];
  for (const field of fields) if (field[0] === name) values.push(field[1]);
  return values;
}
