import type { NativeBuffer } from "@tulle/linux";
import type { Http2Connection } from "./connection.ts";
import type { Closing } from "./closed-streams.ts";
import { ErrorCode, Http2Error } from "./error.ts";
import { Flag, FrameType, writeUint32 } from "./frame.ts";
import type { ResponseHead } from "./head.ts";
import type { HeaderField } from "./hpack-decoder.ts";
import { ReceiveWindow } from "./receive-window.ts";

/** What the user of a stream is told. Nothing is called after `onReset`, nor after the user's own `reset`. */
export interface StreamHandler {
  /** Client: the answer, once or more often for interim responses (1xx). Never called on a server. */
  onResponse(stream: Http2Stream, head: ResponseHead): void;
  /**
   * Payload, valid during the call. The bytes count as buffered until `stream.consume` says that they were passed on:
   * whoever does not, stops the peer.
   */
  onData(stream: Http2Stream, buffer: NativeBuffer, offset: number, length: number): void;
  /** The peer has ended its side. */
  onEnd(stream: Http2Stream, trailers: readonly HeaderField[] | undefined): void;
  /** The stream is over: reset by the peer (`error.remote`), by a violation, or with its connection. */
  onReset(stream: Http2Stream, error: Http2Error): void;
  /** `reserve` returned 0 and may succeed now. */
  onSendable(stream: Http2Stream): void;
}

/** One stream. Made by `Http2Connection.open`, or by the connection for `onRequest`. */
export class Http2Stream {
  readonly id: number;
  readonly connection: Http2Connection;
  /** Set by the user before it returns from `onRequest`. */
  handler: StreamHandler;
  /** We have sent END_STREAM. */
  localEnded = false;
  /** The peer has sent END_STREAM. */
  remoteEnded = false;
  /** The stream is over in both directions, or was reset. */
  closed = false;
  /** We have sent a final response (server) or our request (client). */
  headSent = false;
  /** The peer's final response (client) or its request (server) is there. */
  headReceived = false;
  /** Bytes that the peer lets us send; below zero after a smaller SETTINGS_INITIAL_WINDOW_SIZE. */
  sendWindow: number;
  /** For the connection: bytes of content-length that are still to come, -1 when none was announced. */
  expected = -1;
  /** For the connection: `reserve` has returned 0 for want of this stream's window. */
  starved = false;
  /** For the connection: stands in the line of those who wait for the transport or the connection's window. */
  waiting = false;
  /** For the connection: the request was HEAD or CONNECT, for which content-length means nothing. */
  bodyless = false;
  readonly #window: ReceiveWindow;
  /** Delivered, but not consumed yet. */
  #unconsumed = 0;
  /** Reset: what was not consumed has been returned already. */
  #discarded = false;

  /** For the connection alone. */
  constructor(
    connection: Http2Connection,
    id: number,
    sendWindow: number,
    window: ReceiveWindow,
    handler: StreamHandler,
  ) {
    this.connection = connection;
    this.id = id;
    this.sendWindow = sendWindow;
    this.#window = window;
    this.handler = handler;
  }

  /**
   * Sends the response's header section; `end` ends the stream with it. An interim status (1xx) may come before. Throws
   * TypeError, and nothing is sent, for a character that no header can hold.
   */
  respond(status: number, fields: readonly HeaderField[], end = false): void {
    if (this.closed || this.localEnded || this.headSent) return;
    this.headSent = status >= 200;
    if (this.headSent) this.connection.guard.answered();
    this.connection.sendHeaders(this, [[":status", String(status)], ...fields], end);
  }

  /** Ends our side with a trailer section. */
  sendTrailers(fields: readonly HeaderField[]): void {
    if (this.closed || this.localEnded) return;
    this.connection.sendHeaders(this, fields, true);
  }

  /**
   * Makes room for one DATA frame and returns how many bytes (at most `wanted`) may be put into `connection.output.buffer`
   * at `connection.output.offset`; `commit` or `cancel` must follow at once. 0: not now, `onSendable` will be called.
   */
  reserve(wanted: number): number {
    if (this.closed || this.localEnded) return 0;
    return this.connection.reserve(this, wanted);
  }

  /** Sends the first `length` (> 0) bytes of the reservation; `end` ends our side. */
  commit(length: number, end = false): void {
    this.connection.commit(this, length, end);
  }

  /** Gives the reservation back. */
  cancel(): void {
    this.connection.output.cancel();
  }

  /** Copies bytes into DATA frames as far as they may be sent now; returns how many. After fewer, `onSendable` will be called. */
  write(source: Uint8Array, offset: number, length: number): number {
    let sent = 0;
    while (sent < length) {
      const room = this.reserve(length - sent);
      if (room === 0) break;
      const { output } = this.connection;
      output.buffer.bytes.set(source.subarray(offset + sent, offset + sent + room), output.offset);
      this.commit(room);
      sent += room;
    }
    return sent;
  }

  /** Ends our side (an empty DATA frame with END_STREAM). Idempotent. */
  end(): void {
    if (this.closed || this.localEnded) return;
    this.connection.sendFrame(FrameType.DATA, Flag.END_STREAM, this.id, 0);
    this.connection.localEnd(this);
  }

  /** Ends both sides at once with RST_STREAM. Idempotent; nothing is called afterwards. */
  reset(code: number): void {
    if (this.closed) return;
    const { connection } = this;
    if (connection.sendFrame(FrameType.RST_STREAM, 0, this.id, 4)) {
      writeUint32(connection.output.buffer.bytes, connection.output.offset, code);
    }
    connection.remove(this, "reset-by-us");
  }

  /** `length` delivered bytes were passed on; `queued` says how many of this stream still wait with the consumer. */
  consume(length: number, queued = 0): void {
    if (this.#discarded) return;
    this.#unconsumed -= length;
    const { connection } = this;
    connection.credit(length);
    if (this.remoteEnded || this.closed) return;
    const increment = this.#window.consume(length, queued, connection.now());
    if (increment > 0) connection.sendWindowUpdate(this.id, increment);
  }

  /** For the connection: DATA of `length` bytes (padding included) begins. False: the peer has overdrawn its window. */
  charge(length: number, dataLength: number): boolean {
    this.#window.available -= length;
    this.#unconsumed += length;
    if (this.#window.available < 0) return false;
    if (length > dataLength) this.consume(length - dataLength);
    return true;
  }

  /** For the connection: our SETTINGS_INITIAL_WINDOW_SIZE has taken effect. */
  adjustWindow(delta: number): void {
    this.#window.adjust(delta);
  }

  /** For the connection: takes the stream out of use and returns what nobody will consume. */
  finish(how: Closing): void {
    this.closed = true;
    this.#window.close();
    if (how === "ended" || this.#discarded) return;
    this.#discarded = true;
    this.connection.credit(this.#unconsumed);
  }

  /** For the connection: the peer has reset the stream, violated a rule, or is gone. */
  abort(error: Http2Error, how: Closing): void {
    if (this.closed) return;
    this.connection.remove(this, how);
    this.handler.onReset(this, error);
  }

  /** For the connection: a violation by the peer that concerns this stream alone. */
  fail(code: number, message: string): void {
    if (this.closed) return;
    const { handler } = this;
    this.reset(code);
    handler.onReset(this, new Http2Error(code, message));
    this.connection.countAbuse();
  }
}

/** The handler of a stream whose user has not set one. */
export const refusingHandler: StreamHandler = {
  onResponse() {},
  onData(stream, _buffer, _offset, length) {
    stream.consume(length);
  },
  onEnd(stream) {
    stream.reset(ErrorCode.REFUSED_STREAM);
  },
  onReset() {},
  onSendable() {},
};
