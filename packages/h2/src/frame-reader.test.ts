import assert from "node:assert/strict";
import { test } from "node:test";
import { NativeBuffer } from "@tulle/linux";
import fc from "fast-check";
import { frame } from "../test/raw-peer.ts";
import { Http2Error } from "./error.ts";
import { Flag, FrameType } from "./frame.ts";
import { FrameReader, type FrameSink, type PayloadUse } from "./frame-reader.ts";

/** Writes down what it is given; DATA is put together again. */
class Log implements FrameSink {
  closed = false;
  readonly lines: string[] = [];
  #data = "";
  #start = "";

  onFrameHeader(type: number): PayloadUse {
    return type > FrameType.CONTINUATION ? "skip" : "collect";
  }
  onFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    this.lines.push(`${type} ${flags} ${streamId} ${bytes.toString("latin1", start, end)}`);
  }
  onDataStart(streamId: number, flags: number, length: number, dataLength: number): void {
    this.#start = `data ${streamId} ${flags} ${length} ${dataLength}`;
    this.#data = "";
  }
  onDataBytes(buffer: NativeBuffer, offset: number, length: number): void {
    this.#data += buffer.bytes.toString("latin1", offset, offset + length);
  }
  onDataEnd(flags: number): void {
    this.lines.push(`${this.#start} ${this.#data} end ${flags}`);
  }
}

function read(parts: readonly Uint8Array[]): string[] {
  const log = new Log();
  const reader = new FrameReader(log);
  for (const part of parts) {
    const padded = Buffer.concat([Buffer.alloc(3), part, Buffer.alloc(2)]);
    reader.feed(NativeBuffer.from(padded), 3, part.length);
  }
  return log.lines;
}

/** Cuts bytes at the given places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [0, ...places.map((place) => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  return sorted.slice(1).map((end, i) => bytes.subarray(sorted[i], end));
}

const dataFrame = fc
  .record({
    stream: fc.integer({ min: 1, max: 5 }),
    body: fc.uint8Array({ maxLength: 40 }),
    pad: fc.option(fc.nat(20)),
  })
  .map(({ stream, body, pad }) =>
    pad === null
      ? frame(FrameType.DATA, 0, stream, body)
      : frame(FrameType.DATA, Flag.PADDED, stream, Buffer.concat([Buffer.from([pad]), body, Buffer.alloc(pad)])),
  );
const otherFrame = fc
  .record({ type: fc.integer({ min: 1, max: 12 }), stream: fc.nat(5), body: fc.uint8Array({ maxLength: 40 }) })
  .map(({ type, stream, body }) => frame(type, 0, stream, body));

test("frames are the same however the bytes are cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(dataFrame, otherFrame), { maxLength: 8 }),
      fc.array(fc.nat(), { maxLength: 20 }),
      (frames, places) => {
        const bytes = Buffer.concat(frames);
        const whole = read([bytes]);
        assert.deepEqual(read(cut(bytes, places)), whole);
        assert.deepEqual(read(cut(bytes, [...bytes.keys()])), whole);
        assert.equal(whole.length, frames.filter((f) => f[3]! <= FrameType.CONTINUATION).length);
      },
    ),
  );
});

test("no bytes make it throw anything but a protocol error", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.array(fc.nat(), { maxLength: 8 }), (bytes, places) => {
      try {
        read(cut(Buffer.from(bytes), places));
      } catch (error) {
        assert.ok(error instanceof Http2Error, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});

test("padding counts towards flow control, but is not delivered", () => {
  const bytes = frame(FrameType.DATA, Flag.PADDED | Flag.END_STREAM, 1, "\x03abc\0\0\0");
  assert.deepEqual(read([bytes]), ["data 1 9 7 3 abc end 9"]);
});
