import assert from "node:assert/strict";
import { test } from "node:test";
import { ErrorCode } from "../src/error.ts";
import { Flag, FrameType } from "../src/frame.ts";
import { MAX_QUEUED } from "../src/output.ts";
import { block, CONNECT, frame, GET, RawPeer, settings, uint32 } from "./raw-peer.ts";

const { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION } = FrameType;
const { END_HEADERS, END_STREAM } = Flag;
const CALM = ErrorCode.ENHANCE_YOUR_CALM;

/** Feeds until the connection is closed; returns how often, or fails. */
function flood(peer: RawPeer, limit: number, next: (i: number) => void): number {
  for (let i = 0; i < limit; i++) {
    if (peer.ended) return i;
    next(i);
  }
  assert.ok(peer.ended, `${limit} times went through`);
  return limit;
}

const open = (id: number) => frame(HEADERS, END_HEADERS, id, block(CONNECT));
const reset = (id: number) => frame(RST_STREAM, 0, id, uint32(ErrorCode.CANCEL));
const priority = Buffer.from([0, 0, 0, 0, 1]);

/** What is sent again and again, and what the GOAWAY says about it. */
const FLOODS: readonly (readonly [what: string, reason: RegExp, next: (peer: RawPeer, i: number) => void])[] = [
  ["rapid reset (CVE-2023-44487)", /streams reset/, (peer, i) => peer.feed(open(2 * i + 1), reset(2 * i + 1))],
  [
    "streams that make us reset them (CVE-2025-8671)",
    /streams reset/,
    (peer, i) => peer.feed(open(2 * i + 1), frame(WINDOW_UPDATE, 0, 2 * i + 1, uint32(0))),
  ],
  ["malformed requests", /streams reset/, (peer, i) => peer.request(2 * i + 1, [["x", "y"]])],
  ["PING", /PING/, (peer) => peer.feed(frame(PING, 0, 0, Buffer.alloc(8)))],
  ["SETTINGS", /SETTINGS/, (peer) => peer.feed(frame(SETTINGS, 0, 0, settings([4, 1])))],
  ["empty SETTINGS", /SETTINGS/, (peer) => peer.feed(frame(SETTINGS, 0, 0))],
  ["WINDOW_UPDATE", /WINDOW_UPDATE/, (peer) => peer.feed(frame(WINDOW_UPDATE, 0, 0, uint32(1)))],
  ["PRIORITY", /carry nothing/, (peer, i) => peer.feed(frame(PRIORITY, 0, 2 * i + 1, priority))],
  ["unknown frames", /carry nothing/, (peer) => peer.feed(frame(0x33, 0, 0, "x"))],
  ["empty DATA", /carry nothing/, (peer, i) => peer.feed(i === 0 ? open(1) : frame(DATA, 0, 1))],
  [
    "padding without data",
    /carry nothing/,
    (peer, i) => peer.feed(i === 0 ? open(1) : frame(DATA, Flag.PADDED, 1, "\0")),
  ],
  [
    "CONTINUATION without content",
    /too many pieces/,
    (peer, i) => peer.feed(i === 0 ? frame(HEADERS, 0, 1) : frame(CONTINUATION, 0, 1)),
  ],
  [
    "CONTINUATION in tiny pieces",
    /too many pieces/,
    (peer, i) => peer.feed(i === 0 ? frame(HEADERS, 0, 1) : frame(CONTINUATION, 0, 1, "\x82")),
  ],
  [
    "CONTINUATION with content",
    /too large/,
    (peer, i) =>
      peer.feed(i === 0 ? frame(HEADERS, 0, 1) : frame(CONTINUATION, 0, 1, block([["x", "y".repeat(8000)]]))),
  ],
  [
    "tiny frames for streams that are closed",
    /carry nothing/,
    (peer, i) => peer.feed(...(i === 0 ? [open(1), reset(1)] : [frame(DATA, 0, 1, "x")])),
  ],
];

for (const [what, reason, next] of FLOODS) {
  test(`a flood of ${what} ends the connection with ENHANCE_YOUR_CALM and costs bounded memory`, () => {
    const peer = RawPeer.server();
    flood(peer, 5000, (i) => {
      next(peer, i);
      peer.frames.splice(0, peer.frames.length - 1);
    });
    assert.deepEqual(peer.goAwayCodes, [CALM]);
    assert.match(peer.user.closed?.error?.message ?? "", reason);
    assert.equal(peer.connection.streams.size, 0);
    assert.equal(peer.memory.leased, 0);
    assert.equal(peer.timers.pending, 0);
  });
}

test("ten thousand tunnels that were accepted may be reset by a busy pod", () => {
  const peer = RawPeer.server();
  peer.user.onRequestHook = (stream) => stream.respond(200, []);
  for (let i = 0; i < 10_000; i++) {
    peer.feed(open(2 * i + 1));
    peer.feed(frame(DATA, 0, 2 * i + 1, "hello"));
    peer.feed(reset(2 * i + 1));
    peer.frames.length = 0;
    peer.user.requests.length = 0;
    peer.user.data.clear();
  }
  assert.equal(peer.ended, false);
  assert.equal(peer.connection.streams.size, 0);
});

test("ten thousand tunnels of which every other one is given up before it was accepted go through too", () => {
  const peer = RawPeer.server();
  peer.user.onRequestHook = (stream) => (stream.id & 2) === 0 && stream.respond(200, []);
  for (let i = 0; i < 10_000; i++) {
    peer.feed(open(2 * i + 1), reset(2 * i + 1));
    peer.frames.length = 0;
    peer.user.requests.length = 0;
  }
  assert.equal(peer.ended, false);
});

test("ten thousand requests that are refused with a status are honest", () => {
  const peer = RawPeer.server();
  peer.user.onRequestHook = (stream) => stream.respond(503, [], true);
  for (let i = 0; i < 10_000; i++) peer.feed(frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, block(GET)));
  assert.equal(peer.ended, false);
});

test("an interactive tunnel may send a hundred thousand single bytes, and gRPC a PING for each message", () => {
  const peer = RawPeer.server();
  peer.user.onRequestHook = (stream) => stream.respond(200, []);
  peer.feed(open(1));
  for (let i = 0; i < 100_000; i++) {
    peer.feed(frame(DATA, 0, 1, "x"), ...(i % 4 === 0 ? [frame(PING, 0, 0, Buffer.alloc(8))] : []));
    peer.frames.length = 0;
  }
  assert.equal(peer.ended, false);
});

test("a receiver may return credit for each kilobyte, on the stream and on the connection", () => {
  const peer = RawPeer.server();
  peer.user.onRequestHook = (stream) => stream.respond(200, []);
  peer.feed(open(1));
  const { stream } = peer.user.requests[0]!;
  const body = Buffer.alloc(16_384);
  for (let i = 0; i < 5000; i++) {
    assert.equal(stream.write(body, 0, body.length), body.length);
    peer.timers.settle();
    for (let k = 0; k < 16; k++)
      peer.feed(frame(WINDOW_UPDATE, 0, 0, uint32(1024)), frame(WINDOW_UPDATE, 0, 1, uint32(1024)));
    peer.frames.length = 0;
  }
  assert.equal(peer.ended, false);
});

test("a peer that makes us answer without reading is cut off at a bounded queue", () => {
  const peer = RawPeer.server({ maxConcurrentStreams: 100 });
  peer.user.onRequestHook = (stream) => stream.respond(200, [["x", "y".repeat(10_000)]], true);
  peer.room = 0;
  flood(peer, 2000, (i) => {
    peer.feed(frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, block(GET)));
    assert.ok(peer.memory.leased <= 2 * MAX_QUEUED);
  });
  assert.equal(peer.user.closed?.error?.code, CALM);
  assert.equal(peer.memory.leased, 0);
});

test("an oversized header section costs no more than its limit", () => {
  const peer = RawPeer.server();
  peer.feed(frame(HEADERS, 0, 1, block([["x", "y".repeat(60_000)]])));
  peer.feed(frame(CONTINUATION, 0, 1, block([["x", "y".repeat(60_000)]])));
  assert.deepEqual(peer.goAwayCodes, [CALM]);
});

test("a client is protected from its server as well", () => {
  for (const bytes of [
    frame(PING, 0, 0, Buffer.alloc(8)),
    frame(SETTINGS, 0, 0),
    frame(WINDOW_UPDATE, 0, 0, uint32(1)),
  ]) {
    const peer = RawPeer.client();
    flood(peer, 5000, () => {
      peer.feed(bytes);
      peer.frames.splice(0, peer.frames.length - 1);
    });
    assert.deepEqual(peer.goAwayCodes, [CALM]);
  }
});
