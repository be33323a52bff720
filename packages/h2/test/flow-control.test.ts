import assert from "node:assert/strict";
import { test } from "node:test";
import { ErrorCode } from "../src/error.ts";
import { Flag, FrameType } from "../src/frame.ts";
import type { Http2Stream } from "../src/stream.ts";
import { block, CONNECT, frame, GET, RawPeer, settings, uint32 } from "./raw-peer.ts";

const { DATA, SETTINGS, WINDOW_UPDATE, RST_STREAM } = FrameType;
const BODY = Buffer.alloc(300_000, "x");

/** A server with one CONNECT stream that was accepted. */
function tunnel(limits = {}, own: Buffer = Buffer.alloc(0)): { peer: RawPeer; stream: Http2Stream } {
  const peer = RawPeer.server(limits);
  if (own.length > 0) peer.feed(frame(SETTINGS, 0, 0, own));
  peer.user.onRequestHook = (stream) => stream.respond(200, []);
  peer.request(1, CONNECT);
  peer.frames.length = 0;
  return { peer, stream: peer.user.requests[0]!.stream };
}

test("6.9.2: with a window of 1, one byte is sent, and the rest with the window's updates", () => {
  const { peer, stream } = tunnel({}, settings([4, 1]));
  assert.equal(stream.write(BODY, 0, 10), 1);
  assert.equal(stream.write(BODY, 1, 9), 0);
  peer.feed(frame(WINDOW_UPDATE, 0, 1, uint32(2)));
  assert.deepEqual(peer.user.sendable, [1]);
  assert.equal(stream.write(BODY, 1, 9), 2);
  peer.timers.settle();
  assert.deepEqual(
    peer.take(DATA).map((f) => f.payload.length),
    [1, 2],
  );
});

test("6.9.2: SETTINGS change windows that are open, even below zero", () => {
  const { peer, stream } = tunnel({}, settings([4, 3]));
  assert.equal(stream.write(BODY, 0, 10), 3);
  peer.feed(frame(SETTINGS, 0, 0, settings([4, 1])));
  assert.equal(stream.sendWindow, -2);
  peer.feed(frame(WINDOW_UPDATE, 0, 1, uint32(2)));
  assert.equal(stream.write(BODY, 0, 10), 0, "the window is 0");
  peer.feed(frame(SETTINGS, 0, 0, settings([4, 4])));
  assert.deepEqual(peer.user.sendable, [1]);
  assert.equal(stream.write(BODY, 0, 10), 3);
});

test("the connection's window holds all streams back, and they go on in turn", () => {
  const peer = RawPeer.server();
  peer.feed(frame(SETTINGS, 0, 0, settings([4, 1_000_000])));
  peer.user.onRequestHook = (stream) => stream.respond(200, []);
  for (const id of [1, 3, 5]) peer.request(id, CONNECT);
  const [a, b, c] = peer.user.requests.map((r) => r.stream) as [Http2Stream, Http2Stream, Http2Stream];
  assert.equal(a.write(BODY, 0, BODY.length), 65_535);
  assert.equal(b.write(BODY, 0, BODY.length), 0);
  assert.equal(c.write(BODY, 0, BODY.length), 0);
  peer.feed(frame(WINDOW_UPDATE, 0, 0, uint32(1000)));
  assert.deepEqual(peer.user.sendable, [1, 3, 5], "each in turn; this test's user sends nothing");
});

test("no DATA frame is longer than the peer allows", () => {
  const { peer, stream } = tunnel({}, settings([4, 1_000_000]));
  peer.feed(frame(WINDOW_UPDATE, 0, 0, uint32(1_000_000)));
  assert.equal(stream.write(BODY, 0, BODY.length), BODY.length);
  peer.timers.settle();
  assert.ok(peer.take(DATA).every((f) => f.payload.length <= 16_384));
  assert.equal(peer.dataLength(1), BODY.length);
  peer.feed(frame(SETTINGS, 0, 0, settings([5, 200_000])));
  peer.frames.length = 0;
  stream.write(BODY, 0, 200_000);
  peer.timers.settle();
  assert.equal(peer.take(DATA)[0]?.payload.length, 200_000);
});

test("credit is returned when bytes were consumed, not when they came", () => {
  const { peer, stream } = tunnel();
  peer.user.consume = false;
  peer.feed(frame(DATA, 0, 1, Buffer.alloc(60_000)));
  assert.deepEqual(peer.windowUpdates, []);
  stream.consume(60_000, 1);
  peer.timers.settle();
  assert.deepEqual(peer.windowUpdates, ["1:60000"]);
});

test("padding is credited though nobody consumes it", () => {
  const { peer, stream } = tunnel();
  for (let i = 0; i < 200; i++) {
    peer.feed(frame(DATA, Flag.PADDED, 1, Buffer.concat([Buffer.from([255]), Buffer.alloc(256)])));
  }
  const returned = peer.windowUpdates.reduce(
    (sum, update) => sum + (update.startsWith("1:") ? Number(update.slice(2)) : 0),
    0,
  );
  assert.ok(returned >= 32_768);
  assert.equal(stream.closed, false);
});

test("6.9.1: DATA beyond a stream's window is a stream error, beyond the connection's a connection error", () => {
  const { peer } = tunnel();
  peer.user.consume = false;
  peer.feed(frame(DATA, 0, 1, Buffer.alloc(65_537)));
  assert.deepEqual(peer.resetCodes, [`1:${ErrorCode.FLOW_CONTROL_ERROR}`]);
  assert.equal(peer.ended, false);

  const narrow = tunnel({ connectionWindow: 65_535, initialWindow: 65_535, maxConcurrentStreams: 1 }).peer;
  narrow.user.consume = false;
  narrow.feed(frame(DATA, 0, 1, Buffer.alloc(65_536)));
  assert.deepEqual(narrow.goAwayCodes, [ErrorCode.FLOW_CONTROL_ERROR]);
});

test("a stream that is reset with unread bytes gives its share of the connection's window back", () => {
  const peer = RawPeer.server({ connectionWindow: 1_048_576 });
  peer.user.consume = false;
  peer.user.onRequestHook = (stream) => stream.respond(200, []);
  let returned = 0;
  for (let id = 1; id < 400; id += 2) {
    peer.request(id, CONNECT);
    for (let i = 0; i < 2; i++) peer.feed(frame(DATA, 0, id, Buffer.alloc(2000)));
    peer.feed(frame(RST_STREAM, 0, id, uint32(8)));
    returned = peer.windowUpdates.reduce((sum, update) => sum + Number(update.slice(2)), 0);
  }
  assert.ok(returned > 500_000, `${returned}`);
  assert.equal(peer.ended, false);
});

test("a window that was announced smaller than the default holds once it is acknowledged", () => {
  const peer = new RawPeer("server", { initialWindow: 1024 });
  peer.user.consume = false;
  peer.feed(Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(SETTINGS, 0, 0));
  peer.request(1, CONNECT);
  peer.feed(frame(DATA, 0, 1, Buffer.alloc(50_000)));
  assert.deepEqual(peer.resetCodes, [], "our SETTINGS may still be under way");
  peer.feed(frame(SETTINGS, Flag.ACK, 0));
  peer.request(3, CONNECT);
  peer.feed(frame(DATA, 0, 3, Buffer.alloc(1025)));
  assert.deepEqual(peer.resetCodes, [`3:${ErrorCode.FLOW_CONTROL_ERROR}`]);
});

test("while the transport is blocked nothing is produced, and no stream is forgotten", () => {
  const { peer, stream } = tunnel({}, settings([4, 1_000_000], [5, 1_000_000]));
  peer.feed(frame(WINDOW_UPDATE, 0, 0, uint32(1_000_000)));
  peer.room = 100;
  assert.ok(stream.write(BODY, 0, 1000) > 0);
  peer.timers.settle();
  assert.equal(stream.write(BODY, 0, 1000), 0);
  assert.equal(peer.connection.output.blocked, true);
  peer.unblock();
  assert.deepEqual(peer.user.sendable, [1]);
  assert.equal(stream.write(BODY, 0, 1000), 1000);
  peer.timers.settle();
  assert.equal(peer.dataLength(1), 2000);
  assert.equal(peer.memory.leased, 0, "an idle connection holds no buffer");
});

test("one stream that always has data does not keep the others from sending", () => {
  const peer = RawPeer.server();
  peer.feed(frame(SETTINGS, 0, 0, settings([4, 100_000_000], [5, 1_000_000])));
  peer.feed(frame(WINDOW_UPDATE, 0, 0, uint32(100_000_000)));
  const greedy = {
    ...{ onResponse() {}, onData() {}, onEnd() {}, onReset() {} },
    onSendable(stream: Http2Stream) {
      for (let i = 0; i < 1000 && stream.write(BODY, 0, BODY.length) > 0; i++);
    },
  };
  peer.user.onRequestHook = (stream) => {
    stream.handler = greedy;
    stream.respond(200, []);
  };
  for (const id of [1, 3, 5]) peer.request(id, CONNECT);
  const streams = peer.user.requests.map((r) => r.stream);
  peer.room = 0;
  streams[0]!.write(BODY, 0, 100);
  peer.timers.settle();
  for (const stream of streams) stream.write(BODY, 0, 100);
  peer.frames.length = 0;
  peer.unblock(3_000_000);
  const shares = [1, 3, 5].map((id) => peer.dataLength(id));
  assert.ok(Math.min(...shares) > 600_000, shares.join());
});

test("a GET's answer is held back by the window and ends when it opens", () => {
  const peer = RawPeer.server();
  peer.feed(frame(SETTINGS, 0, 0, settings([4, 0])));
  peer.user.onRequestHook = (stream) => stream.respond(200, []);
  peer.feed(frame(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 1, block(GET)));
  const { stream } = peer.user.requests[0]!;
  assert.equal(stream.write(BODY, 0, 5), 0);
  peer.feed(frame(WINDOW_UPDATE, 0, 1, uint32(5)));
  assert.equal(stream.write(BODY, 0, 5), 5);
  stream.end();
  peer.timers.settle();
  assert.equal(stream.closed, true);
  assert.equal(peer.connection.streams.size, 0);
});
