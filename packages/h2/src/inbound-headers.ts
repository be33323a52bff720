import type { Http2Connection } from "./connection.ts";
import { ErrorCode, Http2Error } from "./error.ts";
import { Abuse } from "./flood-guard.ts";
import { Flag, FrameType, readUint31, writeUint32 } from "./frame.ts";
import { checkTrailers, Malformed, parseRequest, parseResponse } from "./head.ts";
import { type HeaderField, HpackDecoder } from "./hpack-decoder.ts";
import type { Http2Stream } from "./stream.ts";

/** Honest peers cut a section into pieces of 16 KiB; so many of them would already be above every limit. */
const MAX_CONTINUATIONS = 32;
/** Status of a request whose header section is too large (RFC 6585 §5). */
const FIELDS_TOO_LARGE = 431;
const NO_CONTENT = 204;
const NOT_MODIFIED = 304;

interface OpenBlock {
  readonly streamId: number;
  readonly flags: number;
  readonly selfDependent: boolean;
  readonly pieces: Buffer[];
  length: number;
}

/** Header sections on their way in: HEADERS and CONTINUATION (RFC 9113 §4.3, §6.2, §6.10, §8.1). */
export class InboundHeaders {
  readonly #connection: Http2Connection;
  readonly #decoder: HpackDecoder;
  readonly #maxBlock: number;
  #block: OpenBlock | undefined;

  constructor(connection: Http2Connection) {
    this.#connection = connection;
    this.#maxBlock = Math.max(connection.limits.maxHeaderListSize, 16_384);
    this.#decoder = new HpackDecoder({ maxListSize: connection.limits.maxHeaderListSize });
  }

  /** Whether a section is not complete yet. */
  get open(): boolean {
    return this.#block !== undefined;
  }

  /** Nothing but its CONTINUATION may follow a section that is not complete. */
  checkOrder(type: number, streamId: number): void {
    const expected = this.#block?.streamId;
    if (type === FrameType.CONTINUATION ? streamId !== expected : expected !== undefined) {
      throw new Http2Error(ErrorCode.PROTOCOL_ERROR, "header sections are interleaved");
    }
    if (type === FrameType.HEADERS && streamId === 0) {
      throw new Http2Error(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0");
    }
  }

  checkLength(length: number): void {
    if ((this.#block?.length ?? 0) + length > this.#maxBlock + MAX_OVERHEAD) {
      throw new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "a header section is too large");
    }
  }

  onHeaders(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    let from = start;
    let to = end;
    if (flags & Flag.PADDED) {
      if (from === to) throw new Http2Error(ErrorCode.FRAME_SIZE_ERROR, "padded HEADERS have no pad length");
      to -= bytes[from++]!;
    }
    let selfDependent = false;
    if (flags & Flag.PRIORITY) {
      if (end - from < 5) throw new Http2Error(ErrorCode.FRAME_SIZE_ERROR, "HEADERS are shorter than their priority");
      selfDependent = readUint31(bytes, from) === streamId;
      from += 5;
    }
    if (from > to) throw new Http2Error(ErrorCode.PROTOCOL_ERROR, "HEADERS are shorter than their padding");
    if (flags & Flag.END_HEADERS) {
      this.#onSection(streamId, flags, selfDependent, bytes, from, to);
      return;
    }
    if (from === to) this.#countEmpty();
    this.#block = {
      streamId,
      flags,
      selfDependent,
      pieces: [Buffer.from(bytes.subarray(from, to))],
      length: to - from,
    };
  }

  onContinuation(flags: number, bytes: Buffer, start: number, end: number): void {
    const block = this.#block!;
    if (start === end) this.#countEmpty();
    block.pieces.push(Buffer.from(bytes.subarray(start, end)));
    block.length += end - start;
    if (block.pieces.length > MAX_CONTINUATIONS) {
      throw new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "a header section comes in too many pieces");
    }
    if (!(flags & Flag.END_HEADERS)) return;
    this.#block = undefined;
    const whole = Buffer.concat(block.pieces, block.length);
    this.#onSection(block.streamId, block.flags, block.selfDependent, whole, 0, whole.length);
  }

  #onSection(id: number, flags: number, selfDependent: boolean, bytes: Buffer, start: number, end: number): void {
    const connection = this.#connection;
    connection.guard.received();
    // Always decoded, even if nobody wants it: both sides' tables must stay the same.
    const { fields, tooLarge } = this.#decoder.decode(bytes, start, end);
    const ended = (flags & Flag.END_STREAM) !== 0;
    const stream = connection.streams.get(id);
    if (stream !== undefined) {
      if (selfDependent) stream.fail(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself");
      else if (tooLarge) stream.fail(ErrorCode.ENHANCE_YOUR_CALM, "a header section is too large");
      else this.#onMore(stream, fields, ended);
      return;
    }
    if (connection.isIdle(id)) this.#onOpen(id, fields, ended, tooLarge, selfDependent);
    else this.#onLate(id);
  }

  /** A section on a stream that is open: a response, or trailers. */
  #onMore(stream: Http2Stream, fields: readonly HeaderField[], ended: boolean): void {
    if (stream.remoteEnded) {
      stream.fail(ErrorCode.STREAM_CLOSED, "HEADERS after the stream's end");
      return;
    }
    if (!stream.headReceived) {
      this.#onResponse(stream, fields, ended);
      return;
    }
    if (!ended) stream.fail(ErrorCode.PROTOCOL_ERROR, "trailers do not end their stream");
    else if (checkTrailers(fields) !== undefined) stream.fail(ErrorCode.PROTOCOL_ERROR, "trailers are malformed");
    else this.#end(stream, fields);
  }

  #onResponse(stream: Http2Stream, fields: readonly HeaderField[], ended: boolean): void {
    const head = parseResponse(fields);
    if (head instanceof Malformed) {
      stream.fail(ErrorCode.PROTOCOL_ERROR, head.reason);
      return;
    }
    if (head.status < 200) {
      if (ended) stream.fail(ErrorCode.PROTOCOL_ERROR, "an interim response ends its stream");
      else stream.handler.onResponse(stream, head);
      return;
    }
    stream.headReceived = true;
    const noBody = stream.bodyless || head.status === NO_CONTENT || head.status === NOT_MODIFIED;
    stream.expected = noBody ? -1 : (head.contentLength ?? -1);
    stream.handler.onResponse(stream, head);
    if (ended && !stream.closed) this.#end(stream, undefined);
  }

  #end(stream: Http2Stream, trailers: readonly HeaderField[] | undefined): void {
    if (stream.expected > 0) {
      stream.fail(ErrorCode.PROTOCOL_ERROR, "the body is shorter than content-length");
      return;
    }
    this.#connection.remoteEnd(stream);
    stream.handler.onEnd(stream, trailers);
  }

  #onOpen(id: number, fields: readonly HeaderField[], ended: boolean, tooLarge: boolean, selfDependent: boolean): void {
    const connection = this.#connection;
    if (connection.role === "client" || connection.isLocal(id)) {
      throw new Http2Error(ErrorCode.PROTOCOL_ERROR, `HEADERS for stream ${id}, which is not the peer's to open`);
    }
    connection.lastRemoteId = id;
    if (!connection.takesStreams || connection.streams.size >= connection.limits.maxConcurrentStreams) {
      this.#refuse(id, ErrorCode.REFUSED_STREAM);
      return;
    }
    const head = tooLarge ? undefined : parseRequest(fields, connection.limits.enableConnectProtocol);
    if (head instanceof Malformed || selfDependent) {
      this.#refuse(id, ErrorCode.PROTOCOL_ERROR);
      return;
    }
    if (head !== undefined && ended && (head.contentLength ?? 0) > 0) {
      this.#refuse(id, ErrorCode.PROTOCOL_ERROR);
      return;
    }
    const stream = connection.createStream(id);
    stream.headReceived = true;
    if (head === undefined) {
      stream.remoteEnded = ended;
      stream.respond(FIELDS_TOO_LARGE, [], true);
      stream.reset(ErrorCode.NO_ERROR);
      return;
    }
    stream.bodyless = head.method === "CONNECT";
    stream.expected = stream.bodyless ? -1 : (head.contentLength ?? -1);
    // Known before the handler answers, so that an answer that ends the stream closes it.
    stream.remoteEnded = ended;
    connection.handler.onRequest(stream, head, ended);
    if (ended && !stream.closed) stream.handler.onEnd(stream, undefined);
  }

  /** A section for a stream that is closed (RFC 9113 §5.1, §5.1.1). */
  #onLate(id: number): void {
    const how = this.#connection.closedStreams.get(id);
    if (how === "reset-by-us") this.#countEmpty();
    else if (how === "reset-by-peer") this.#refuse(id, ErrorCode.STREAM_CLOSED, false);
    else {
      const code = how === "ended" ? ErrorCode.STREAM_CLOSED : ErrorCode.PROTOCOL_ERROR;
      throw new Http2Error(code, `HEADERS for stream ${id}, which is closed`);
    }
  }

  #refuse(id: number, code: number, remember = true): void {
    const connection = this.#connection;
    if (connection.sendFrame(FrameType.RST_STREAM, 0, id, 4)) {
      writeUint32(connection.output.buffer.bytes, connection.output.offset, code);
    }
    if (remember) connection.closedStreams.add(id, "reset-by-us");
    connection.countAbuse();
  }

  #countEmpty(): void {
    const excess = this.#connection.guard.take(Abuse.EMPTY);
    if (excess !== undefined) throw new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, excess);
  }
}

/** Pad length, padding and priority may come on top of a section. */
const MAX_OVERHEAD = 261;
