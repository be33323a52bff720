import type { NativeBuffer } from "@tulle/linux";
import type { Task } from "@tulle/reactor";
import type { Closing } from "./closed-streams.ts";
import { ClosedStreams } from "./closed-streams.ts";
import { ErrorCode, Http2Error } from "./error.ts";
import { Abuse, FloodGuard } from "./flood-guard.ts";
import { CLIENT_PREFACE, DEFAULT_WINDOW, Flag, FrameType, MAX_STREAM_ID, MIN_MAX_FRAME, writeUint32 } from "./frame.ts";
import type { RequestHead } from "./head.ts";
import type { HeaderField } from "./hpack-decoder.ts";
import { HpackEncoder } from "./hpack-encoder.ts";
import { Inbound } from "./inbound.ts";
import type { Http2Limits } from "./limits.ts";
import { resolveLimits } from "./limits.ts";
import { Liveness, type Timers } from "./liveness.ts";
import type { ThreadMemory } from "./memory.ts";
import { type Http2Transport, Output } from "./output.ts";
import { ConnectionWindow, ReceiveWindow, WindowPlan } from "./receive-window.ts";
import { SendLine } from "./send-line.ts";
import { encodeSettings, INITIAL_SETTINGS, type Settings } from "./settings.ts";
import { Http2Stream, refusingHandler, type StreamHandler } from "./stream.ts";

export type Role = "client" | "server";

/** What the user of a connection is told. */
export interface ConnectionHandler {
  /** The peer's first SETTINGS are there: a client may open streams. */
  onReady(connection: Http2Connection): void;
  /** Server: a request; must set `stream.handler`. `ended`: it has no body. */
  onRequest(stream: Http2Stream, head: RequestHead, ended: boolean): void;
  /** A stream is over, for whatever reason; the count of open streams was lowered before. */
  onStreamClosed(stream: Http2Stream): void;
  /** The peer opens (client: accepts) no more streams; those that it has not processed were reset with REFUSED_STREAM. */
  onGoAway(connection: Http2Connection, code: number, debug: string): void;
  /** Once. Every stream was reset before. No error: an orderly end, after GOAWAY or between two streams. */
  onClosed(connection: Http2Connection, error: Http2Error | undefined): void;
}

export interface Http2Options {
  readonly role: Role;
  readonly memory: ThreadMemory;
  readonly timers: Timers;
  readonly transport: Http2Transport;
  readonly handler: ConnectionHandler;
  readonly limits?: Partial<Http2Limits>;
}

/**
 * One HTTP/2 connection (RFC 9113) without a socket: bytes come in by `feed`, frames go out through the transport, once a
 * turn. Everything is synchronous; nothing a peer may send makes a call throw.
 */
export class Http2Connection implements Task {
  readonly role: Role;
  readonly limits: Http2Limits;
  readonly handler: ConnectionHandler;
  readonly output: Output;
  readonly guard: FloodGuard;
  readonly streams = new Map<number, Http2Stream>();
  readonly closedStreams = new ClosedStreams();
  /** For the reactor. */
  deferred = false;
  /** No byte goes in or out any more. */
  closed = false;
  /** The peer's first SETTINGS are there. */
  ready = false;
  /** Either side has sent GOAWAY. */
  goingAway = false;
  /** Of the peer. */
  settings: Settings = INITIAL_SETTINGS;
  /** Bytes that the peer lets us send on all streams together. */
  sendWindow = DEFAULT_WINDOW;
  /** The highest stream that the peer has opened. */
  lastRemoteId = 0;
  readonly plan: WindowPlan;
  readonly window: ConnectionWindow;
  /** What the peer counts with as the initial window of its streams: the default until it has acknowledged ours. */
  initialWindow = DEFAULT_WINDOW;
  readonly encoder = new HpackEncoder();
  readonly memory: ThreadMemory;
  readonly #timers: Timers;
  readonly #transport: Http2Transport;
  readonly #inbound: Inbound;
  readonly #liveness: Liveness;
  readonly #line = new SendLine();
  #nextId: number;
  #pumpWanted = false;
  #finalGoAway = false;

  constructor(options: Http2Options) {
    this.role = options.role;
    this.handler = options.handler;
    this.limits = resolveLimits(options.role, options.limits);
    this.memory = options.memory;
    this.#timers = options.timers;
    this.#transport = options.transport;
    this.output = new Output(options.transport, options.memory);
    this.guard = new FloodGuard(() => this.#timers.now());
    const { connectionWindow, initialWindow, maxStreamWindow, maxConcurrentStreams: maxStreams } = this.limits;
    this.plan = new WindowPlan({ connectionWindow, initialWindow, maxStreamWindow, maxStreams });
    this.window = new ConnectionWindow(connectionWindow);
    this.#nextId = this.role === "client" ? 1 : 2;
    this.#inbound = new Inbound(this);
    const { pingIntervalMs: intervalMs, pingTimeoutMs: timeoutMs } = this.limits;
    this.#liveness = new Liveness(
      this.#timers,
      { intervalMs, timeoutMs },
      () => this.#sendPing(LIVENESS),
      () => this.fail(new Http2Error(ErrorCode.NO_ERROR, "the peer does not answer PING")),
    );
    this.#sayHello();
  }

  now(): number {
    return this.#timers.now();
  }

  /** Whether `open` would make a stream now. */
  get canOpen(): boolean {
    return !this.closed && !this.goingAway && this.streams.size < this.streamLimit && this.#nextId < MAX_STREAM_ID;
  }

  /** How many streams we may have open: our limit and the peer's. */
  get streamLimit(): number {
    return Math.min(this.limits.maxConcurrentStreams, this.settings.maxConcurrentStreams);
  }

  /**
   * Opens a stream with a request's header section, pseudo headers first. Undefined when `canOpen` is false. Throws
   * TypeError, and nothing is sent, for a character that no header can hold.
   */
  open(section: readonly HeaderField[], end: boolean, handler: StreamHandler): Http2Stream | undefined {
    if (!this.canOpen) return undefined;
    const stream = this.createStream(this.#nextId, handler);
    this.#nextId += 2;
    stream.headSent = true;
    const [, method] = section[0]!;
    stream.bodyless = method === "HEAD" || method === "CONNECT";
    try {
      this.sendHeaders(stream, section, end);
    } catch (error) {
      this.streams.delete(stream.id);
      throw error;
    }
    return stream;
  }

  /** Bytes have come. */
  feed(buffer: NativeBuffer, offset: number, length: number): void {
    if (this.closed || length === 0) return;
    this.#liveness.received();
    this.#inbound.feed(buffer, offset, length);
  }

  /** The transport takes bytes (again, or for the first time). */
  transportWritable(): void {
    if (this.closed) return;
    this.output.blocked = false;
    this.run();
  }

  /** The transport is over: EOF, or an error that it ran into. */
  transportClosed(error?: Error): void {
    if (this.closed) return;
    const orderly = error === undefined && this.streams.size === 0 && this.#inbound.atBoundary;
    const reason = error?.message ?? "the peer has closed the connection";
    this.#finish(orderly ? undefined : new Http2Error(ErrorCode.NO_ERROR, reason, true));
  }

  /** Graceful: the peer learns that no new streams are taken; ends when the last one does. */
  drain(): void {
    if (this.closed || this.#finalGoAway) return;
    const first = !this.goingAway;
    this.goingAway = true;
    if (this.role === "server" && first) {
      // Streams that are on their way are still taken: the final GOAWAY follows the answer to this PING (RFC 9113 §6.8).
      this.#sendGoAway(MAX_STREAM_ID, ErrorCode.NO_ERROR, "");
      this.#sendPing(DRAIN);
      return;
    }
    this.#finalGoAway = true;
    this.#sendGoAway(this.lastRemoteId, ErrorCode.NO_ERROR, "");
    this.endIfIdle();
  }

  /** At once: GOAWAY, then every stream is reset with `error`. */
  fail(error: Http2Error): void {
    if (this.closed) return;
    if (!this.output.overflowed) this.#sendGoAway(this.lastRemoteId, error.code, error.message);
    this.output.flush();
    this.#finish(error);
  }

  /** For the reactor: sends what this turn has produced and lets waiting streams go on. */
  run(): void {
    if (this.closed) return;
    this.output.flush();
    if (this.#pumpWanted || this.#line.length > 0) this.#pump();
    this.output.flush();
    if (this.output.overflowed)
      this.fail(new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "the peer does not read our answers"));
  }

  // What follows is for the connection's own parts.

  isLocal(id: number): boolean {
    return (id & 1) === (this.role === "client" ? 1 : 0);
  }

  /** Whether nobody has opened this stream yet. */
  isIdle(id: number): boolean {
    return this.isLocal(id) ? id >= this.#nextId : id > this.lastRemoteId;
  }

  createStream(id: number, handler: StreamHandler = refusingHandler): Http2Stream {
    const window = new ReceiveWindow(this.plan, this.initialWindow, this.now());
    const stream = new Http2Stream(this, id, this.settings.initialWindowSize, window, handler);
    this.streams.set(id, stream);
    return stream;
  }

  remove(stream: Http2Stream, how: Closing): void {
    if (!this.streams.delete(stream.id)) return;
    this.closedStreams.add(stream.id, how);
    stream.finish(how);
    this.#line.leave(stream);
    this.handler.onStreamClosed(stream);
    this.endIfIdle();
  }

  localEnd(stream: Http2Stream): void {
    stream.localEnded = true;
    if (stream.remoteEnded) this.remove(stream, "ended");
  }

  remoteEnd(stream: Http2Stream): void {
    stream.remoteEnded = true;
    if (stream.localEnded) this.remove(stream, "ended");
  }

  reserve(stream: Http2Stream, wanted: number): number {
    const { output } = this;
    if (stream.sendWindow <= 0) {
      stream.starved = true;
      return 0;
    }
    const allowed = Math.min(wanted, stream.sendWindow, this.sendWindow, this.settings.maxFrameSize);
    const room = allowed > 0 && this.#line.admits(stream) ? output.reserve(allowed) : 0;
    if (room > 0) return room;
    this.#line.join(stream);
    if (this.#maySend()) this.wantPump();
    return 0;
  }

  commit(stream: Http2Stream, length: number, end: boolean): void {
    this.output.commit(length, end ? Flag.END_STREAM : 0, stream.id);
    stream.sendWindow -= length;
    this.sendWindow -= length;
    this.#line.spend(length);
    this.guard.sent(length);
    this.#timers.defer(this);
    if (end) this.localEnd(stream);
  }

  /** Writes a frame's header; the payload is to be put where `output` says. False: the connection is closing. */
  sendFrame(type: number, flags: number, streamId: number, length: number): boolean {
    if (this.closed) return false;
    this.#timers.defer(this);
    return this.output.frame(type, flags, streamId, length);
  }

  sendWindowUpdate(streamId: number, increment: number): void {
    if (this.sendFrame(FrameType.WINDOW_UPDATE, 0, streamId, 4)) {
      writeUint32(this.output.buffer.bytes, this.output.offset, increment);
    }
  }

  sendHeaders(stream: Http2Stream, section: readonly HeaderField[], end: boolean): void {
    if (this.closed) return;
    const space = this.memory.headerSpace(HpackEncoder.room(section));
    const length = this.encoder.encode(section, space, 0);
    let flags: number = end ? Flag.END_STREAM : 0;
    let type: number = FrameType.HEADERS;
    for (let at = 0; at < length || type === FrameType.HEADERS; type = FrameType.CONTINUATION) {
      const count = Math.min(length - at, MIN_MAX_FRAME);
      if (at + count === length) flags |= Flag.END_HEADERS;
      if (!this.sendFrame(type, flags, stream.id, count)) return;
      space.copy(this.output.buffer.bytes, this.output.offset, at, at + count);
      at += count;
      flags = 0;
    }
    if (end) this.localEnd(stream);
  }

  /** `bytes` of the connection's receive window are free again. */
  credit(bytes: number): void {
    const increment = this.window.consume(bytes);
    if (increment > 0) this.sendWindowUpdate(0, increment);
  }

  /** A waiting stream may be able to go on: looked at when the turn ends. */
  wantPump(): void {
    this.#pumpWanted = true;
    this.#timers.defer(this);
  }

  /** The peer has made us drop a stream before we had answered it. */
  countAbuse(): void {
    if (this.role === "client") return;
    const excess = this.guard.take(Abuse.RESET);
    if (excess !== undefined) this.fail(new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, excess));
  }

  /** A PING was answered. */
  pingAnswered(bytes: Buffer, offset: number): void {
    if (bytes[offset] === DRAIN && this.goingAway && !this.#finalGoAway && this.role === "server") {
      this.#finalGoAway = true;
      this.#sendGoAway(this.lastRemoteId, ErrorCode.NO_ERROR, "");
      this.endIfIdle();
    }
  }

  /** Whether a stream that the peer opens now is still taken. */
  get takesStreams(): boolean {
    return !this.#finalGoAway;
  }

  /** After GOAWAY the connection ends with its last stream; a client that was told to go ends at once when it has none. */
  endIfIdle(): void {
    if (this.closed || !this.goingAway || this.streams.size > 0) return;
    if (this.role === "server" && !this.#finalGoAway) return;
    this.output.flush();
    this.#finish(undefined);
  }

  readonly #maySend = (): boolean => !this.output.blocked && this.sendWindow > 0 && !this.closed;

  #sayHello(): void {
    const client = this.role === "client";
    if (client) this.output.raw(CLIENT_PREFACE);
    const { limits } = this;
    const payload = encodeSettings({
      ...INITIAL_SETTINGS,
      enablePush: !client,
      maxConcurrentStreams: client ? INITIAL_SETTINGS.maxConcurrentStreams : limits.maxConcurrentStreams,
      initialWindowSize: this.plan.initialWindow,
      maxFrameSize: limits.maxFrameSize,
      maxHeaderListSize: limits.maxHeaderListSize,
      enableConnectProtocol: !client && limits.enableConnectProtocol,
    });
    if (this.sendFrame(FrameType.SETTINGS, 0, 0, payload.length)) {
      payload.copy(this.output.buffer.bytes, this.output.offset);
    }
    this.credit(0);
  }

  #sendPing(kind: number): void {
    if (!this.sendFrame(FrameType.PING, 0, 0, 8)) return;
    const { buffer, offset } = this.output;
    buffer.bytes.fill(0, offset, offset + 8);
    buffer.bytes[offset] = kind;
  }

  #sendGoAway(lastId: number, code: number, debug: string): void {
    const text = Buffer.from(debug.slice(0, MAX_DEBUG), "utf8");
    if (!this.sendFrame(FrameType.GOAWAY, 0, 0, 8 + text.length)) return;
    const { buffer, offset } = this.output;
    writeUint32(buffer.bytes, offset, lastId);
    writeUint32(buffer.bytes, offset + 4, code);
    text.copy(buffer.bytes, offset + 8);
  }

  #pump(): void {
    this.#pumpWanted = false;
    this.#line.serve(this.#maySend);
    if (this.#line.length > 0 && this.#maySend()) this.wantPump();
  }

  #finish(error: Http2Error | undefined): void {
    this.closed = true;
    this.goingAway = true;
    this.#liveness.stop();
    this.#line.clear();
    const reason = error ?? new Http2Error(ErrorCode.NO_ERROR, "the connection has ended");
    for (const stream of this.streams.values()) stream.abort(reason, "reset-by-us");
    this.output.clear();
    this.#transport.end();
    this.handler.onClosed(this, error);
  }
}

/** The first octet of our PINGs says what for. */
const LIVENESS = 1;
const DRAIN = 2;
/** Characters of explanation in a GOAWAY. */
const MAX_DEBUG = 256;
