import type { SocketAddress } from "@tulle/base";
import { isIpv6 } from "@tulle/base";
import { NativeBuffer } from "@tulle/linux";
import type { Connection, DatagramSocket, Namespace, Reactor, Timer } from "@tulle/reactor";
import { AGAIN } from "@tulle/reactor";
import { ResponseCache } from "./cache.ts";
import { encodeQuery, HEADER_LENGTH, type Query, type ResponseSummary, summarizeResponse } from "./message.ts";

/** Queries of one pod that wait for an upstream at a time; more are answered SERVFAIL. */
export const MAX_FORWARDED = 512;
/** The largest DNS message (its length field over TCP has 16 bits). */
export const MAX_MESSAGE = 65_535;
const LENGTH_PREFIX = 2;

export interface ForwarderOptions {
  readonly reactor: Reactor;
  /** Upstream sockets are made here, so that queries leave with the pod's address. */
  readonly namespace: Namespace | undefined;
  readonly mark: number | undefined;
  readonly upstreams: readonly SocketAddress[];
  readonly timeoutMs: number;
  /** Rounds through the upstreams. */
  readonly attempts: number;
  readonly observe: ForwarderObserver;
}

export interface ForwarderObserver {
  onUpstreamRequest(query: Query): void;
  onUpstreamFailure(query: Query): void;
  onUpstreamAnswer(query: Query, seconds: number): void;
}

/** The upstream's response, addressed to this client; undefined when no upstream answered. */
export type ForwardResult = (response: Uint8Array | undefined, reason: string) => void;

/** A stub resolver with a cache: one socket, and so one random port, for each query in flight. */
export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly #cache: ResponseCache;
  readonly #pending = new Set<Exchange>();
  readonly #scratch = NativeBuffer.alloc(LENGTH_PREFIX + MAX_MESSAGE);

  constructor(options: ForwarderOptions) {
    this.#options = options;
    this.#cache = new ResponseCache(() => options.reactor.now());
  }

  /** Answers at once from the cache, else asks the upstreams, over TCP when the client came over TCP. */
  forward(query: Query, overTcp: boolean, done: ForwardResult): void {
    const cached = this.#cache.get(query);
    if (cached !== undefined) return done(cached, "");
    if (this.#options.upstreams.length === 0) return done(undefined, "no nameserver is configured");
    if (this.#pending.size >= MAX_FORWARDED) return done(undefined, `${MAX_FORWARDED} queries are waiting already`);
    const exchange = new Exchange(this.#options, query, overTcp, this.#scratch, (response, summary, reason) => {
      this.#pending.delete(exchange);
      if (response !== undefined && summary !== undefined) this.#cache.put(query, response, summary);
      done(response, reason);
    });
    this.#pending.add(exchange);
    exchange.start();
  }

  /** Queries that wait for an upstream. */
  get pending(): number {
    return this.#pending.size;
  }

  close(): void {
    for (const exchange of [...this.#pending]) exchange.cancel();
    this.#pending.clear();
  }
}

type ExchangeResult = (response: Uint8Array | undefined, summary: ResponseSummary | undefined, reason: string) => void;

/** One query on its way through the upstreams. */
class Exchange {
  readonly #options: ForwarderOptions;
  readonly #query: Query;
  readonly #overTcp: boolean;
  readonly #scratch: NativeBuffer;
  readonly #done: ExchangeResult;
  readonly #startedAt: number;
  #id = 0;
  #try = 0;
  #timer: Timer | undefined;
  #datagram: DatagramSocket | undefined;
  #connection: Connection | undefined;
  #received: Uint8Array[] = [];
  #reason = "timed out";

  constructor(options: ForwarderOptions, query: Query, overTcp: boolean, scratch: NativeBuffer, done: ExchangeResult) {
    this.#options = options;
    this.#query = query;
    this.#overTcp = overTcp;
    this.#scratch = scratch;
    this.#done = done;
    this.#startedAt = options.reactor.now();
  }

  start(): void {
    const { reactor, upstreams, attempts, timeoutMs } = this.#options;
    const upstream = this.#try < attempts * upstreams.length ? upstreams[this.#try % upstreams.length] : undefined;
    if (upstream === undefined) {
      this.#options.observe.onUpstreamFailure(this.#query);
      return this.#finish(undefined, undefined);
    }
    this.#try++;
    this.#id = Math.floor(reactor.random() * 65_536);
    this.#options.observe.onUpstreamRequest(this.#query);
    this.#timer = reactor.after(timeoutMs, () => this.#next("timed out"));
    if (this.#overTcp) this.#connect(upstream);
    else this.#send(upstream);
  }

  cancel(): void {
    this.#release();
  }

  #send(upstream: SocketAddress): void {
    const { reactor, namespace, mark } = this.#options;
    const message = encodeQuery(this.#query, this.#id);
    try {
      this.#datagram = reactor.datagram(
        {
          address: { ip: isIpv6(upstream.ip) ? "::" : "0.0.0.0", port: 0 },
          ...(namespace === undefined ? {} : { namespace }),
          ...(mark === undefined ? {} : { mark }),
        },
        { onReadable: (socket) => this.#onDatagram(socket, upstream) },
      );
    } catch (error) {
      return this.#next(error instanceof Error ? error.message : String(error));
    }
    this.#scratch.bytes.set(message);
    const sent = this.#datagram.send(this.#scratch, 0, message.length, upstream);
    if (sent < 0 && sent !== AGAIN) this.#next(`cannot send (errno ${-sent})`);
  }

  #onDatagram(socket: DatagramSocket, upstream: SocketAddress): void {
    for (;;) {
      const length = socket.receive(this.#scratch, 0, MAX_MESSAGE);
      if (length === AGAIN || socket.closed) return;
      if (length < 0) return this.#next(`cannot receive (errno ${-length})`);
      const { ip, port } = socket.sender;
      if (ip !== upstream.ip || port !== upstream.port) continue;
      const response = Uint8Array.from(this.#scratch.bytes.subarray(0, length));
      if (this.#accept(response)) return;
    }
  }

  #connect(upstream: SocketAddress): void {
    const { reactor, namespace, mark } = this.#options;
    this.#received = [];
    this.#connection = reactor.connect(
      {
        address: upstream,
        ...(namespace === undefined ? {} : { namespace }),
        ...(mark === undefined ? {} : { mark }),
      },
      {
        onConnected: (connection, error) => {
          if (error !== 0) return this.#next(`cannot connect (errno ${-error})`);
          const message = encodeQuery(this.#query, this.#id);
          this.#scratch.bytes.writeUInt16BE(message.length, 0);
          this.#scratch.bytes.set(message, LENGTH_PREFIX);
          const length = LENGTH_PREFIX + message.length;
          // A fresh socket always has room for one query.
          if (connection.write(this.#scratch, 0, length) !== length) this.#next("cannot send");
        },
        onReadable: (connection) => this.#onStream(connection),
        onWritable: () => {},
      },
    );
  }

  #onStream(connection: Connection): void {
    for (;;) {
      const length = connection.read(this.#scratch, 0, this.#scratch.length);
      if (length === AGAIN || connection.closed) return;
      if (length <= 0) return this.#next("the upstream closed the connection");
      this.#received.push(Uint8Array.from(this.#scratch.bytes.subarray(0, length)));
      const all = Buffer.concat(this.#received);
      this.#received = [all];
      if (all.length < LENGTH_PREFIX || all.length < LENGTH_PREFIX + all.readUInt16BE(0)) continue;
      const response = Uint8Array.from(all.subarray(LENGTH_PREFIX, LENGTH_PREFIX + all.readUInt16BE(0)));
      if (!this.#accept(response)) this.#next("the upstream's answer does not fit the query");
      return;
    }
  }

  /** True when this is the answer: anything else that arrives may be forged and is ignored. */
  #accept(response: Uint8Array): boolean {
    const summary = summarizeResponse(response);
    if (summary === undefined || summary.id !== this.#id) return false;
    const question = Buffer.from(response.subarray(HEADER_LENGTH, HEADER_LENGTH + this.#query.question.length));
    if (question.compare(this.#query.question) !== 0) return false;
    if (summary.code !== 0 && summary.code !== 3) {
      this.#next(`the upstream answered with code ${summary.code}`);
      return true;
    }
    this.#options.observe.onUpstreamAnswer(this.#query, (this.#options.reactor.now() - this.#startedAt) / 1000);
    new DataView(response.buffer).setUint16(0, this.#query.id);
    this.#finish(response, summary);
    return true;
  }

  #next(reason: string): void {
    this.#reason = reason;
    this.#release();
    this.start();
  }

  #finish(response: Uint8Array | undefined, summary: ResponseSummary | undefined): void {
    this.#release();
    this.#done(response, summary, this.#reason);
  }

  #release(): void {
    this.#timer?.cancel();
    this.#datagram?.close();
    this.#connection?.reset();
    this.#timer = undefined;
    this.#datagram = undefined;
    this.#connection = undefined;
  }
}
