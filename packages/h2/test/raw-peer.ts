import { NativeBuffer } from "@tulle/linux";
import { type ConnectionHandler, Http2Connection, type Role } from "../src/connection.ts";
import type { Http2Error } from "../src/error.ts";
import {
  CLIENT_PREFACE,
  Flag,
  FRAME_HEADER,
  FrameType,
  readUint31,
  readUint32,
  writeFrameHeader,
} from "../src/frame.ts";
import type { RequestHead } from "../src/head.ts";
import { type HeaderField, HpackDecoder } from "../src/hpack-decoder.ts";
import { HpackEncoder } from "../src/hpack-encoder.ts";
import type { Http2Limits } from "../src/limits.ts";
import { ThreadMemory } from "../src/memory.ts";
import type { Http2Transport } from "../src/output.ts";
import type { Http2Stream, StreamHandler } from "../src/stream.ts";
import { ManualTimers } from "./manual-timers.ts";

export interface RawFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** A frame as bytes. */
export function frame(type: number, flags: number, streamId: number, payload: Uint8Array | string = ""): Buffer {
  const body = typeof payload === "string" ? Buffer.from(payload, "latin1") : Buffer.from(payload);
  const bytes = Buffer.alloc(FRAME_HEADER + body.length);
  writeFrameHeader(bytes, 0, body.length, type, flags, streamId);
  body.copy(bytes, FRAME_HEADER);
  return bytes;
}

export function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => bytes.writeUInt32BE(value >>> 0, i * 4));
  return bytes;
}

/** The payload of SETTINGS. */
export function settings(...entries: [id: number, value: number][]): Buffer {
  return Buffer.concat(
    entries.map(([id, value]) => {
      const entry = Buffer.alloc(6);
      entry.writeUInt16BE(id, 0);
      entry.writeUInt32BE(value >>> 0, 2);
      return entry;
    }),
  );
}

/** A header block of literals that leave the table alone, so that it may be sent to any connection at any time. */
export function block(fields: readonly (readonly [string, string])[]): Buffer {
  const string = (text: string) => Buffer.concat([integer(text.length, 7), Buffer.from(text, "latin1")]);
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), string(name), string(value)]));
}

function integer(value: number, prefix: number): Buffer {
  const mask = (1 << prefix) - 1;
  if (value < mask) return Buffer.from([value]);
  const bytes = [mask];
  let rest = value - mask;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}

export const GET: readonly (readonly [string, string])[] = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "test"],
];
export const POST: readonly (readonly [string, string])[] = [[":method", "POST"], ...GET.slice(1)];
export const CONNECT: readonly (readonly [string, string])[] = [
  [":method", "CONNECT"],
  [":authority", "10.0.0.1:80"],
];

/** Records what the connection under test tells its user, and does with requests what the test says. */
export class Recorder implements ConnectionHandler, StreamHandler {
  ready = 0;
  closed: { error: Http2Error | undefined } | undefined;
  goAway: { code: number; debug: string } | undefined;
  readonly requests: { stream: Http2Stream; head: RequestHead; ended: boolean }[] = [];
  readonly responses: { id: number; status: number; fields: readonly HeaderField[] }[] = [];
  readonly ends: { id: number; trailers: readonly HeaderField[] | undefined }[] = [];
  readonly resets: { id: number; code: number; remote: boolean }[] = [];
  readonly sendable: number[] = [];
  streamsClosed = 0;
  data = new Map<number, string>();
  /** Whether data is consumed as it comes. */
  consume = true;
  onRequestHook: ((stream: Http2Stream, head: RequestHead, ended: boolean) => void) | undefined;

  onReady(): void {
    this.ready++;
  }
  onRequest(stream: Http2Stream, head: RequestHead, ended: boolean): void {
    stream.handler = this;
    this.requests.push({ stream, head, ended });
    this.onRequestHook?.(stream, head, ended);
  }
  onStreamClosed(): void {
    this.streamsClosed++;
  }
  onGoAway(_connection: Http2Connection, code: number, debug: string): void {
    this.goAway = { code, debug };
  }
  onClosed(_connection: Http2Connection, error: Http2Error | undefined): void {
    this.closed = { error };
  }
  onResponse(stream: Http2Stream, head: { status: number; fields: readonly HeaderField[] }): void {
    this.responses.push({ id: stream.id, status: head.status, fields: head.fields });
  }
  onData(stream: Http2Stream, buffer: NativeBuffer, offset: number, length: number): void {
    const text = buffer.bytes.toString("latin1", offset, offset + length);
    this.data.set(stream.id, (this.data.get(stream.id) ?? "") + text);
    if (this.consume) stream.consume(length);
  }
  onEnd(stream: Http2Stream, trailers: readonly HeaderField[] | undefined): void {
    this.ends.push({ id: stream.id, trailers });
  }
  onReset(stream: Http2Stream, error: Http2Error): void {
    this.resets.push({ id: stream.id, code: error.code, remote: error.remote });
  }
  onSendable(stream: Http2Stream): void {
    this.sendable.push(stream.id);
  }
}

/** One connection under test, and the hand that feeds it frames and reads its answers. */
export class RawPeer implements Http2Transport {
  readonly timers = new ManualTimers();
  readonly memory = new ThreadMemory();
  readonly user = new Recorder();
  readonly connection: Http2Connection;
  readonly frames: RawFrame[] = [];
  readonly decoder = new HpackDecoder();
  readonly encoder = new HpackEncoder();
  ended = false;
  /** Bytes that the transport still takes; Infinity: it never blocks. */
  room = Number.POSITIVE_INFINITY;
  #sent = Buffer.alloc(0);
  #preface: number;

  constructor(role: Role, limits: Partial<Http2Limits> = {}) {
    this.#preface = role === "client" ? CLIENT_PREFACE.length : 0;
    this.connection = new Http2Connection({
      role,
      memory: this.memory,
      timers: this.timers,
      transport: this,
      handler: this.user,
      limits: { pingIntervalMs: 0, ...limits },
    });
    this.connection.transportWritable();
    this.timers.settle();
  }

  /** A server after both sides' preface and SETTINGS, with what it has said so far forgotten. */
  static server(limits: Partial<Http2Limits> = {}): RawPeer {
    const peer = new RawPeer("server", limits);
    peer.feed(CLIENT_PREFACE, frame(FrameType.SETTINGS, 0, 0), frame(FrameType.SETTINGS, Flag.ACK, 0));
    peer.frames.length = 0;
    return peer;
  }

  static client(limits: Partial<Http2Limits> = {}, own: Buffer = Buffer.alloc(0)): RawPeer {
    const peer = new RawPeer("client", limits);
    peer.feed(frame(FrameType.SETTINGS, 0, 0, own), frame(FrameType.SETTINGS, Flag.ACK, 0));
    peer.frames.length = 0;
    return peer;
  }

  /** Feeds bytes in one piece and ends the turn. */
  feed(...parts: Uint8Array[]): void {
    const bytes = Buffer.concat(parts);
    if (bytes.length > 0) this.connection.feed(NativeBuffer.from(bytes), 0, bytes.length);
    this.timers.settle();
  }

  request(streamId: number, fields: readonly (readonly [string, string])[], flags: number = Flag.END_HEADERS): void {
    this.feed(frame(FrameType.HEADERS, flags, streamId, block(fields)));
  }

  take(type: number): RawFrame[] {
    return this.frames.filter((f) => f.type === type);
  }

  /** Error codes of GOAWAY frames. */
  get goAwayCodes(): number[] {
    return this.take(FrameType.GOAWAY).map((f) => readUint32(f.payload, 4));
  }

  /** `id:code` of RST_STREAM frames. */
  get resetCodes(): string[] {
    return this.take(FrameType.RST_STREAM).map((f) => `${f.streamId}:${readUint32(f.payload, 0)}`);
  }

  /** `id:increment` of WINDOW_UPDATE frames. */
  get windowUpdates(): string[] {
    return this.take(FrameType.WINDOW_UPDATE).map((f) => `${f.streamId}:${readUint31(f.payload, 0)}`);
  }

  /** Length of all DATA payloads on a stream. */
  dataLength(streamId: number): number {
    return this.take(FrameType.DATA).reduce((sum, f) => sum + (f.streamId === streamId ? f.payload.length : 0), 0);
  }

  write(buffer: NativeBuffer, offset: number, length: number): number {
    const count = Math.min(length, this.room);
    this.room -= count;
    this.#receive(Buffer.from(buffer.bytes.subarray(offset, offset + count)));
    return count;
  }

  flush(): boolean {
    return this.room > 0;
  }

  end(): void {
    this.ended = true;
  }

  unblock(room = Number.POSITIVE_INFINITY): void {
    this.room = room;
    this.connection.transportWritable();
    this.timers.settle();
  }

  #receive(bytes: Buffer): void {
    this.#sent = Buffer.concat([this.#sent, bytes]);
    if (this.#preface > 0 && this.#sent.length >= this.#preface) {
      this.#sent = this.#sent.subarray(this.#preface);
      this.#preface = 0;
    }
    while (this.#preface === 0 && this.#sent.length >= FRAME_HEADER) {
      const length = this.#sent.readUIntBE(0, 3);
      if (this.#sent.length < FRAME_HEADER + length) return;
      this.frames.push({
        type: this.#sent[3]!,
        flags: this.#sent[4]!,
        streamId: readUint31(this.#sent, 5),
        payload: Buffer.from(this.#sent.subarray(FRAME_HEADER, FRAME_HEADER + length)),
      });
      this.#sent = this.#sent.subarray(FRAME_HEADER + length);
    }
  }
}
