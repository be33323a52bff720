import type { NativeBuffer } from "@tulle/linux";
import { FRAME_HEADER, writeFrameHeader } from "./frame.ts";
import type { ThreadMemory } from "./memory.ts";
import { SMALL_BUFFER } from "./memory.ts";

/** Where a connection's bytes go; implemented over a socket, over TLS, and by tests over memory. */
export interface Http2Transport {
  /** Takes bytes and returns how many. Fewer than given means: no more until `Http2Connection.transportWritable`. */
  write(buffer: NativeBuffer, offset: number, length: number): number;
  /** Ends a batch of writes. False means: no more until `transportWritable`. */
  flush(): boolean;
  /** The connection is over: sends what was taken, then closes. */
  end(): void;
}

/**
 * What may wait while the peer does not read: answers and header sections; DATA is not produced in that time. A peer that
 * makes us answer this much without reading is cut off.
 */
export const MAX_QUEUED = 1_048_576;
/** A reservation smaller than this is not worth a read: the buffer is flushed first. */
const MIN_RESERVATION = 4096;

interface Segment {
  readonly buffer: NativeBuffer;
  start: number;
  end: number;
}

/** A connection's frames on their way out, in leased buffers; a connection with nothing to send holds none. */
export class Output {
  /** The transport takes nothing at present. True until it was connected. */
  blocked = true;
  /** More than MAX_QUEUED waits: what was written last was dropped, the connection must end. */
  overflowed = false;
  /** Where `reserve` and `frame` have made room. */
  buffer!: NativeBuffer;
  offset = 0;
  readonly #transport: Http2Transport;
  readonly #memory: ThreadMemory;
  /** Full buffers that wait in front of `#current`. */
  readonly #full: Segment[] = [];
  #current: NativeBuffer | undefined;
  #start = 0;
  #end = 0;
  #queued = 0;

  constructor(transport: Http2Transport, memory: ThreadMemory) {
    this.#transport = transport;
    this.#memory = memory;
  }

  /** Bytes that wait. */
  get queued(): number {
    return this.#queued;
  }

  /** Writes a frame's header and makes room for its payload: `length` bytes at `offset` of `buffer`. False: overflow. */
  frame(type: number, flags: number, streamId: number, length: number): boolean {
    if (!this.#makeRoom(FRAME_HEADER + length)) return false;
    writeFrameHeader(this.buffer.bytes, this.#end, length, type, flags, streamId);
    this.offset = this.#end + FRAME_HEADER;
    this.#grow(FRAME_HEADER + length);
    return true;
  }

  /** Bytes as they are (the preface). */
  raw(bytes: Buffer): void {
    if (!this.#makeRoom(bytes.length)) return;
    bytes.copy(this.buffer.bytes, this.#end);
    this.#grow(bytes.length);
  }

  /** Makes room for a DATA frame of at most `length` bytes and returns how many there are at `offset` of `buffer`; 0 when blocked. */
  reserve(length: number): number {
    if (this.blocked) return 0;
    const least = FRAME_HEADER + Math.min(length, MIN_RESERVATION);
    if (this.#current !== undefined && this.#current.length - this.#end < least) {
      this.flush();
      if (this.blocked) return 0;
    }
    if (this.#current !== undefined && this.#current.length === SMALL_BUFFER && length > SMALL_BUFFER) this.#setAside();
    const current = (this.#current ??= this.#memory.lease(FRAME_HEADER + length));
    this.buffer = current;
    this.offset = this.#end + FRAME_HEADER;
    return Math.min(length, current.length - this.offset);
  }

  /** The reserved room now holds `length` bytes of DATA. */
  commit(length: number, flags: number, streamId: number): void {
    writeFrameHeader(this.buffer.bytes, this.#end, length, 0, flags, streamId);
    this.#grow(FRAME_HEADER + length);
  }

  /** Gives the reservation back; nothing was read. */
  cancel(): void {
    if (this.#end === this.#start) this.#releaseCurrent();
  }

  /** Hands everything to the transport, as far as it takes it. */
  flush(): void {
    if (this.blocked || this.#queued === 0) return;
    while (this.#full.length > 0) {
      const segment = this.#full[0]!;
      const taken = this.#transport.write(segment.buffer, segment.start, segment.end - segment.start);
      segment.start += taken;
      this.#queued -= taken;
      if (segment.start < segment.end) {
        this.blocked = true;
        return;
      }
      this.#memory.release(segment.buffer);
      this.#full.shift();
    }
    if (this.#current !== undefined) {
      const taken = this.#transport.write(this.#current, this.#start, this.#end - this.#start);
      this.#start += taken;
      this.#queued -= taken;
      if (this.#start < this.#end) {
        this.blocked = true;
        return;
      }
      this.#releaseCurrent();
    }
    if (!this.#transport.flush()) this.blocked = true;
  }

  /** Drops what waits. */
  clear(): void {
    for (const segment of this.#full) this.#memory.release(segment.buffer);
    this.#full.length = 0;
    this.#releaseCurrent();
    this.#queued = 0;
    this.blocked = true;
  }

  #makeRoom(length: number): boolean {
    if (this.#queued + length > MAX_QUEUED) this.flush();
    if (this.overflowed || this.#queued + length > MAX_QUEUED) {
      this.overflowed = true;
      return false;
    }
    if (this.#current !== undefined && this.#current.length - this.#end < length) this.#setAside();
    this.buffer = this.#current ??= this.#memory.lease(length);
    return true;
  }

  #setAside(): void {
    this.#full.push({ buffer: this.#current!, start: this.#start, end: this.#end });
    this.#current = undefined;
    this.#start = 0;
    this.#end = 0;
  }

  #grow(length: number): void {
    this.#end += length;
    this.#queued += length;
  }

  #releaseCurrent(): void {
    if (this.#current !== undefined) this.#memory.release(this.#current);
    this.#current = undefined;
    this.#start = 0;
    this.#end = 0;
  }
}
