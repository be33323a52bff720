import type { NativeBuffer } from "@tulle/linux";
import { ErrorCode, Http2Error } from "./error.ts";
import { Flag, FRAME_HEADER, FrameType, readUint31 } from "./frame.ts";

/** What becomes of a frame's payload. */
export type PayloadUse = "collect" | "skip";

/** Receives frames. Any call may throw an Http2Error: a connection error. */
export interface FrameSink {
  /** True: everything that still comes is dropped. */
  readonly closed: boolean;
  /** A frame header came; what it says is to be checked before its payload is waited for. Not asked for DATA: "collect" has no meaning there. */
  onFrameHeader(type: number, flags: number, streamId: number, length: number): PayloadUse;
  /** A complete frame other than DATA; the bytes are valid during the call. */
  onFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void;
  /** DATA begins. `length` counts towards flow control; `dataLength` is what `onDataBytes` will deliver. */
  onDataStart(streamId: number, flags: number, length: number, dataLength: number): void;
  onDataBytes(buffer: NativeBuffer, offset: number, length: number): void;
  onDataEnd(flags: number): void;
}

/**
 * Cuts a byte stream into frames (RFC 9113 §4.1). DATA is passed on in place, as far as it has come; other frames are
 * passed on whole, from the input if they are complete there, else from a copy.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #header = Buffer.alloc(FRAME_HEADER);
  /** Bytes of a frame header that have come so far, when it is cut. */
  #headerFill = 0;
  #state: "header" | "data" | "padding" | "pad-length" | "collect" | "skip" = "header";
  #type = 0;
  #flags = 0;
  #streamId = 0;
  /** Bytes of the current payload that are still to come; of its data and its padding in the case of DATA. */
  #left = 0;
  #padding = 0;
  #collected: Buffer | undefined;
  #collectedFill = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Whether the input stands between two frames. */
  get atBoundary(): boolean {
    return this.#state === "header" && this.#headerFill === 0;
  }

  feed(buffer: NativeBuffer, offset: number, length: number): void {
    const end = offset + length;
    let at = offset;
    while (at < end && !this.#sink.closed) {
      if (this.#state === "header") at = this.#readHeader(buffer.bytes, at, end);
      else at = this.#readPayload(buffer, at, end);
    }
  }

  #readHeader(bytes: Buffer, start: number, end: number): number {
    if (this.#headerFill === 0 && end - start >= FRAME_HEADER) {
      return this.#begin(bytes, start, start + FRAME_HEADER, bytes, end);
    }
    const count = Math.min(FRAME_HEADER - this.#headerFill, end - start);
    bytes.copy(this.#header, this.#headerFill, start, start + count);
    this.#headerFill += count;
    if (this.#headerFill < FRAME_HEADER) return end;
    this.#headerFill = 0;
    return this.#begin(this.#header, 0, start + count, bytes, end);
  }

  /** The header is `from[at, at + 9)`; the payload starts at `bytes[start]`. Returns where to go on. */
  #begin(from: Buffer, at: number, start: number, bytes: Buffer, end: number): number {
    const length = (from[at]! << 16) | (from[at + 1]! << 8) | from[at + 2]!;
    const type = (this.#type = from[at + 3]!);
    const flags = (this.#flags = from[at + 4]!);
    const streamId = (this.#streamId = readUint31(from, at + 5));
    const use = this.#sink.onFrameHeader(type, flags, streamId, length);
    if (type === FrameType.DATA) {
      this.#left = length;
      if (flags & Flag.PADDED) {
        if (length === 0) throw new Http2Error(ErrorCode.FRAME_SIZE_ERROR, "a padded DATA frame has no pad length");
        this.#state = "pad-length";
      } else this.#beginData(length, 0);
      return start;
    }
    if (use === "skip") {
      this.#left = length;
      if (length > 0) this.#state = "skip";
      return start;
    }
    if (end - start >= length) {
      this.#sink.onFrame(type, flags, streamId, bytes, start, start + length);
      return start + length;
    }
    this.#left = length;
    this.#state = "collect";
    this.#collected = Buffer.allocUnsafeSlow(length);
    this.#collectedFill = 0;
    return start;
  }

  #beginData(length: number, padding: number): void {
    this.#left = length;
    this.#padding = padding;
    this.#state = "data";
    const overhead = this.#flags & Flag.PADDED ? padding + 1 : 0;
    this.#sink.onDataStart(this.#streamId, this.#flags, length + overhead, length);
    if (this.#left === 0) this.#endData();
  }

  #endData(): void {
    this.#left = this.#padding;
    this.#padding = 0;
    if (this.#left > 0) {
      this.#state = "padding";
      return;
    }
    this.#state = "header";
    this.#sink.onDataEnd(this.#flags);
  }

  #readPayload(buffer: NativeBuffer, start: number, end: number): number {
    if (this.#state === "pad-length") {
      const padding = buffer.bytes[start]!;
      if (padding >= this.#left)
        throw new Http2Error(ErrorCode.PROTOCOL_ERROR, "a DATA frame is shorter than its padding");
      this.#beginData(this.#left - 1 - padding, padding);
      return start + 1;
    }
    const count = Math.min(this.#left, end - start);
    this.#left -= count;
    switch (this.#state) {
      case "data":
        this.#sink.onDataBytes(buffer, start, count);
        if (this.#left === 0) this.#endData();
        break;
      case "padding":
        if (this.#left === 0) this.#endData();
        break;
      case "collect":
        buffer.bytes.copy(this.#collected!, this.#collectedFill, start, start + count);
        this.#collectedFill += count;
        if (this.#left === 0) this.#deliver();
        break;
      case "skip":
        if (this.#left === 0) this.#state = "header";
        break;
      default:
    }
    return start + count;
  }

  #deliver(): void {
    const bytes = this.#collected!;
    this.#collected = undefined;
    this.#state = "header";
    this.#sink.onFrame(this.#type, this.#flags, this.#streamId, bytes, 0, bytes.length);
  }
}
