import type { NativeBuffer } from "@tulle/linux";
import type { Http2Connection } from "./connection.ts";
import { ErrorCode, Http2Error } from "./error.ts";
import { Abuse, type AbuseKind } from "./flood-guard.ts";
import { CLIENT_PREFACE, Flag, FrameType, MAX_WINDOW, readUint31, readUint32, writeUint32 } from "./frame.ts";
import { FrameReader, type FrameSink, type PayloadUse } from "./frame-reader.ts";
import { InboundHeaders } from "./inbound-headers.ts";
import { checkShape } from "./frame-shape.ts";
import { applySettings } from "./settings.ts";
import type { Http2Stream } from "./stream.ts";

/** Longest payload of the frames that are read as a whole, apart from header sections. */
const MAX_CONTROL_FRAME = 16_384;
/** DATA below this length for a stream that we have reset counts as a frame that carries nothing. */
const SMALL_LATE_DATA = 64;

/** What a connection does with the frames that it receives (RFC 9113 §5 and §6). */
export class Inbound implements FrameSink {
  readonly #connection: Http2Connection;
  readonly #reader: FrameReader;
  readonly #headers: InboundHeaders;
  /** Octets of the client's preface that are still to come (server). */
  #preface: number;
  #settled = false;
  /** The stream to which the current DATA frame belongs. */
  #dataStream: Http2Stream | undefined;

  constructor(connection: Http2Connection) {
    this.#connection = connection;
    this.#reader = new FrameReader(this);
    this.#headers = new InboundHeaders(connection);
    this.#preface = connection.role === "server" ? CLIENT_PREFACE.length : 0;
  }

  get closed(): boolean {
    return this.#connection.closed;
  }

  /** Whether the input could end here. */
  get atBoundary(): boolean {
    return this.#reader.atBoundary && !this.#headers.open;
  }

  feed(buffer: NativeBuffer, offset: number, length: number): void {
    try {
      const skipped = this.#preface > 0 ? this.#readPreface(buffer.bytes, offset, length) : 0;
      if (length > skipped) this.#reader.feed(buffer, offset + skipped, length - skipped);
    } catch (error) {
      if (!(error instanceof Http2Error)) throw error;
      this.#connection.fail(error);
    }
  }

  onFrameHeader(type: number, flags: number, streamId: number, length: number): PayloadUse {
    if (!this.#settled) {
      if (type !== FrameType.SETTINGS || flags & Flag.ACK) throw protocolError("the first frame is not SETTINGS");
      this.#settled = true;
    }
    if (length > this.#connection.limits.maxFrameSize) {
      throw new Http2Error(ErrorCode.FRAME_SIZE_ERROR, `a frame of ${length} bytes is too long`);
    }
    this.#headers.checkOrder(type, streamId);
    if (type === FrameType.HEADERS || type === FrameType.CONTINUATION) {
      this.#headers.checkLength(length);
      return "collect";
    }
    if (type > FrameType.CONTINUATION) {
      this.#take(Abuse.EMPTY);
      return "skip";
    }
    checkShape(type, flags, streamId, length);
    if (type !== FrameType.DATA && length > MAX_CONTROL_FRAME) {
      throw new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "a control frame is far too long");
    }
    return "collect";
  }

  onFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    switch (type) {
      case FrameType.HEADERS:
        this.#headers.onHeaders(flags, streamId, bytes, start, end);
        break;
      case FrameType.CONTINUATION:
        this.#headers.onContinuation(flags, bytes, start, end);
        break;
      case FrameType.PRIORITY:
        this.#onPriority(streamId, bytes, start, end);
        break;
      case FrameType.RST_STREAM:
        this.#onReset(streamId, readUint32(bytes, start));
        break;
      case FrameType.SETTINGS:
        this.#onSettings(flags, bytes, start, end);
        break;
      case FrameType.PING:
        this.#onPing(flags, bytes, start);
        break;
      case FrameType.GOAWAY:
        this.#onGoAway(bytes, start, end);
        break;
      case FrameType.WINDOW_UPDATE:
        this.#onWindowUpdate(streamId, readUint31(bytes, start));
        break;
      default:
    }
  }

  onDataStart(streamId: number, flags: number, length: number, dataLength: number): void {
    const connection = this.#connection;
    connection.window.available -= length;
    if (connection.window.available < 0) {
      throw new Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "DATA exceeds the connection's window");
    }
    this.#dataStream = undefined;
    if (dataLength === 0 && !(flags & Flag.END_STREAM)) this.#take(Abuse.EMPTY);
    const stream = connection.streams.get(streamId);
    if (stream === undefined || stream.remoteEnded) {
      connection.credit(length);
      if (stream !== undefined) stream.fail(ErrorCode.STREAM_CLOSED, "DATA after the stream's end");
      else this.#lateData(streamId, length);
      return;
    }
    if (!stream.charge(length, dataLength)) {
      stream.fail(ErrorCode.FLOW_CONTROL_ERROR, "DATA exceeds the stream's window");
    } else if (!stream.headReceived) stream.fail(ErrorCode.PROTOCOL_ERROR, "DATA before the response");
    else if (stream.expected >= 0 && (stream.expected -= dataLength) < 0) {
      stream.fail(ErrorCode.PROTOCOL_ERROR, "the body is longer than content-length");
    } else {
      this.#dataStream = stream;
      if (dataLength > 0) connection.guard.received();
    }
  }

  onDataBytes(buffer: NativeBuffer, offset: number, length: number): void {
    const stream = this.#dataStream;
    if (stream !== undefined && !stream.closed) stream.handler.onData(stream, buffer, offset, length);
  }

  onDataEnd(flags: number): void {
    const stream = this.#dataStream;
    this.#dataStream = undefined;
    if (stream === undefined || stream.closed || !(flags & Flag.END_STREAM)) return;
    if (stream.expected > 0) {
      stream.fail(ErrorCode.PROTOCOL_ERROR, "the body is shorter than content-length");
      return;
    }
    this.#connection.remoteEnd(stream);
    stream.handler.onEnd(stream, undefined);
  }

  #readPreface(bytes: Buffer, offset: number, length: number): number {
    const count = Math.min(this.#preface, length);
    const from = CLIENT_PREFACE.length - this.#preface;
    if (CLIENT_PREFACE.compare(bytes, offset, offset + count, from, from + count) !== 0) {
      throw protocolError("the connection preface is not HTTP/2's");
    }
    this.#preface -= count;
    return count;
  }

  #lateData(streamId: number, length: number): void {
    const connection = this.#connection;
    if (connection.isIdle(streamId)) throw protocolError(`DATA for stream ${streamId}, which is idle`);
    switch (connection.closedStreams.get(streamId)) {
      case "ended":
        throw new Http2Error(ErrorCode.STREAM_CLOSED, `DATA for stream ${streamId}, which has ended`);
      case "reset-by-peer":
        this.#take(Abuse.EMPTY);
        this.#sendReset(streamId, ErrorCode.STREAM_CLOSED);
        break;
      default:
        if (length < SMALL_LATE_DATA) this.#take(Abuse.EMPTY);
    }
  }

  #onPriority(streamId: number, bytes: Buffer, start: number, end: number): void {
    this.#take(Abuse.EMPTY);
    const stream = this.#connection.streams.get(streamId);
    const fail = (code: number, message: string): void => {
      if (stream === undefined) throw new Http2Error(code, message);
      stream.fail(code, message);
    };
    if (end - start !== 5) fail(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is not five octets long");
    else if (readUint31(bytes, start) === streamId) fail(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself");
  }

  #onReset(streamId: number, code: number): void {
    const connection = this.#connection;
    const stream = connection.streams.get(streamId);
    if (stream === undefined) {
      if (connection.isIdle(streamId)) throw protocolError(`RST_STREAM for stream ${streamId}, which is idle`);
      this.#take(Abuse.EMPTY);
      return;
    }
    const premature = !stream.headSent;
    stream.abort(new Http2Error(code, "the peer has reset the stream", true), "reset-by-peer");
    if (premature) connection.countAbuse();
  }

  #onSettings(flags: number, bytes: Buffer, start: number, end: number): void {
    const connection = this.#connection;
    if (flags & Flag.ACK) {
      this.#onSettingsAcknowledged();
      return;
    }
    this.#take(Abuse.SETTINGS);
    const before = connection.settings;
    const after = applySettings(before, bytes, start, end, connection.role === "client");
    connection.settings = after;
    connection.encoder.setPeerTableSize(after.headerTableSize);
    const delta = after.initialWindowSize - before.initialWindowSize;
    if (delta !== 0) {
      for (const stream of connection.streams.values()) {
        stream.sendWindow += delta;
        if (stream.sendWindow > MAX_WINDOW) {
          throw new Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS make a window overflow");
        }
      }
    }
    connection.sendFrame(FrameType.SETTINGS, Flag.ACK, 0, 0);
    if (!connection.ready) {
      connection.ready = true;
      connection.handler.onReady(connection);
    }
    if (delta > 0) for (const stream of connection.streams.values()) wake(stream);
  }

  #onSettingsAcknowledged(): void {
    const connection = this.#connection;
    const delta = connection.plan.initialWindow - connection.initialWindow;
    connection.initialWindow = connection.plan.initialWindow;
    if (delta !== 0) for (const stream of connection.streams.values()) stream.adjustWindow(delta);
  }

  #onPing(flags: number, bytes: Buffer, start: number): void {
    const connection = this.#connection;
    if (flags & Flag.ACK) {
      connection.pingAnswered(bytes, start);
      return;
    }
    this.#take(Abuse.PING);
    if (connection.sendFrame(FrameType.PING, Flag.ACK, 0, 8)) {
      bytes.copy(connection.output.buffer.bytes, connection.output.offset, start, start + 8);
    }
  }

  #onGoAway(bytes: Buffer, start: number, end: number): void {
    const connection = this.#connection;
    const lastId = readUint31(bytes, start);
    const code = readUint32(bytes, start + 4);
    const debug = bytes.toString("latin1", start + 8, Math.min(end, start + 8 + MAX_DEBUG));
    this.#take(Abuse.EMPTY);
    connection.goingAway = true;
    const refused = new Http2Error(ErrorCode.REFUSED_STREAM, "the peer was going away", true);
    for (const stream of connection.streams.values()) {
      if (connection.isLocal(stream.id) && stream.id > lastId) stream.abort(refused, "reset-by-peer");
    }
    connection.handler.onGoAway(connection, code, debug);
    if (connection.role === "client") connection.endIfIdle();
  }

  #onWindowUpdate(streamId: number, increment: number): void {
    const connection = this.#connection;
    this.#take(Abuse.WINDOW);
    if (streamId === 0) {
      if (increment === 0) throw protocolError("WINDOW_UPDATE of 0");
      connection.sendWindow += increment;
      if (connection.sendWindow > MAX_WINDOW) {
        throw new Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "WINDOW_UPDATE makes the connection's window overflow");
      }
      connection.wantPump();
      return;
    }
    const stream = connection.streams.get(streamId);
    if (stream === undefined) {
      if (connection.isIdle(streamId)) throw protocolError(`WINDOW_UPDATE for stream ${streamId}, which is idle`);
      return;
    }
    stream.sendWindow += increment;
    if (increment === 0) stream.fail(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0");
    else if (stream.sendWindow > MAX_WINDOW) {
      stream.fail(ErrorCode.FLOW_CONTROL_ERROR, "WINDOW_UPDATE makes the stream's window overflow");
    } else wake(stream);
  }

  #sendReset(streamId: number, code: number): void {
    const connection = this.#connection;
    if (connection.sendFrame(FrameType.RST_STREAM, 0, streamId, 4)) {
      writeUint32(connection.output.buffer.bytes, connection.output.offset, code);
    }
  }

  #take(kind: AbuseKind): void {
    const excess = this.#connection.guard.take(kind);
    if (excess !== undefined) throw new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, excess);
  }
}

/** Characters of a GOAWAY's explanation that are kept. */
const MAX_DEBUG = 256;

function wake(stream: Http2Stream): void {
  if (!stream.starved || stream.sendWindow <= 0 || stream.closed) return;
  stream.starved = false;
  stream.handler.onSendable(stream);
}

function protocolError(what: string): Http2Error {
  return new Http2Error(ErrorCode.PROTOCOL_ERROR, what);
}
