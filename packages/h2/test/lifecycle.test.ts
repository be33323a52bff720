import assert from "node:assert/strict";
import { test } from "node:test";
import { ErrorCode } from "../src/error.ts";
import { Flag, FrameType, MAX_STREAM_ID, readUint31 } from "../src/frame.ts";
import { block, CONNECT, frame, GET, RawPeer, settings, uint32 } from "./raw-peer.ts";

const { DATA, HEADERS, RST_STREAM, PING, GOAWAY } = FrameType;
const { ACK, END_STREAM, END_HEADERS } = Flag;
const SECTION: [string, string][] = [
  [":method", "CONNECT"],
  [":authority", "10.0.0.1:80"],
];
const OK = block([[":status", "200"]]);
const lastIds = (peer: RawPeer) => peer.take(GOAWAY).map((f) => readUint31(f.payload, 0));

test("half-close: each side ends by itself, and the stream is over when both have", () => {
  const peer = RawPeer.server();
  peer.user.onRequestHook = (stream) => stream.respond(200, []);
  peer.request(1, CONNECT);
  const { stream } = peer.user.requests[0]!;
  peer.feed(frame(DATA, END_STREAM, 1, "bye"));
  assert.deepEqual(peer.user.ends, [{ id: 1, trailers: undefined }]);
  assert.equal(stream.closed, false);
  assert.equal(stream.write(Buffer.from("still here"), 0, 10), 10);
  stream.end();
  peer.timers.settle();
  assert.equal(stream.closed, true);
  assert.equal(peer.take(DATA).at(-1)?.flags, END_STREAM);
  assert.equal(peer.user.streamsClosed, 1);
});

test("a stream that was reset tells its user once, with the peer's code", () => {
  const peer = RawPeer.server();
  peer.request(1, CONNECT);
  peer.feed(frame(RST_STREAM, 0, 1, uint32(0xabcd)), frame(RST_STREAM, 0, 1, uint32(8)));
  assert.deepEqual(peer.user.resets, [{ id: 1, code: 0xabcd, remote: true }]);
});

test("a stream's own reset is silent and final", () => {
  const peer = RawPeer.server();
  peer.request(1, CONNECT);
  const { stream } = peer.user.requests[0]!;
  stream.reset(ErrorCode.CONNECT_ERROR);
  stream.reset(ErrorCode.CANCEL);
  stream.respond(200, []);
  stream.end();
  assert.equal(stream.reserve(10), 0);
  peer.timers.settle();
  assert.deepEqual(peer.resetCodes, [`1:${ErrorCode.CONNECT_ERROR}`]);
  assert.deepEqual(peer.user.resets, []);
});

test("a client may open streams once SETTINGS are there, and no more than both sides allow", () => {
  const peer = RawPeer.client({ maxConcurrentStreams: 3 }, settings([3, 2]));
  assert.equal(peer.user.ready, 1);
  assert.deepEqual(
    [1, 2, 3].map(() => peer.connection.open(SECTION, false, peer.user)?.id),
    [1, 3, undefined],
  );
  peer.feed(frame(RST_STREAM, 0, 1, uint32(8)));
  assert.equal(peer.connection.open(SECTION, false, peer.user)?.id, 5);
});

test("graceful end of a server: streams under way are still taken, later ones are refused, the last one ends it", () => {
  const peer = RawPeer.server();
  peer.request(1, CONNECT);
  peer.connection.drain();
  peer.timers.settle();
  assert.deepEqual(lastIds(peer), [MAX_STREAM_ID]);
  peer.request(3, CONNECT);
  const ping = peer.take(PING)[0]!;
  peer.feed(frame(PING, ACK, 0, ping.payload));
  assert.deepEqual(lastIds(peer), [MAX_STREAM_ID, 3]);
  peer.request(5, CONNECT);
  assert.deepEqual(peer.resetCodes, [`5:${ErrorCode.REFUSED_STREAM}`]);
  assert.equal(peer.ended, false);
  for (const { stream } of peer.user.requests) stream.reset(ErrorCode.CANCEL);
  assert.deepEqual(peer.user.closed, { error: undefined });
  assert.equal(peer.ended, true);
});

test("a client that is told to go away keeps what was accepted and learns what was not", () => {
  const peer = RawPeer.client();
  for (let i = 0; i < 3; i++) peer.connection.open(SECTION, false, peer.user);
  peer.feed(frame(GOAWAY, 0, 0, Buffer.concat([uint32(3, ErrorCode.NO_ERROR), Buffer.from("draining")])));
  assert.deepEqual(peer.user.resets, [{ id: 5, code: ErrorCode.REFUSED_STREAM, remote: true }]);
  assert.deepEqual(peer.user.goAway, { code: 0, debug: "draining" });
  assert.equal(peer.connection.canOpen, false);
  peer.feed(frame(HEADERS, END_HEADERS | END_STREAM, 1, OK), frame(RST_STREAM, 0, 3, uint32(8)));
  assert.equal(peer.ended, false, "stream 1 is half-closed");
  peer.connection.streams.get(1)?.end();
  assert.deepEqual(peer.user.closed, { error: undefined });
});

test("an idle client that is told to go away closes the connection", () => {
  const peer = RawPeer.client();
  peer.feed(frame(GOAWAY, 0, 0, uint32(0, 0)));
  assert.deepEqual(peer.user.closed, { error: undefined });
  assert.equal(peer.ended, true);
});

test("the end of the transport resets every stream; between streams it is orderly", () => {
  const busy = RawPeer.client();
  busy.connection.open(SECTION, false, busy.user);
  busy.connection.transportClosed();
  assert.equal(busy.user.resets.length, 1);
  assert.equal(busy.user.closed?.error?.remote, true);
  const idle = RawPeer.client();
  idle.connection.transportClosed();
  assert.deepEqual(idle.user.closed, { error: undefined });
});

test("a peer that answers no PING is given up within 20 s", () => {
  const peer = RawPeer.server({ pingIntervalMs: 10_000, pingTimeoutMs: 9_900 });
  peer.request(1, CONNECT);
  peer.timers.advance(10_000);
  assert.equal(peer.take(PING).length, 1);
  peer.feed(frame(PING, ACK, 0, peer.take(PING)[0]!.payload));
  peer.timers.advance(20_000);
  assert.equal(peer.user.resets.length, 1);
  assert.match(peer.user.closed?.error?.message ?? "", /PING/);
  assert.equal(peer.timers.pending, 0);
});

test("trailers end our side", () => {
  const peer = RawPeer.server();
  peer.request(1, GET, END_HEADERS | END_STREAM);
  const { stream } = peer.user.requests[0]!;
  stream.respond(200, []);
  stream.write(Buffer.from("x"), 0, 1);
  stream.sendTrailers([["grpc-status", "0"]]);
  peer.timers.settle();
  const last = peer.take(HEADERS).at(-1)!;
  assert.equal(last.flags, END_STREAM | END_HEADERS);
  assert.equal(stream.closed, true);
});

test("a handler may end the connection from within its own callback", () => {
  const peer = RawPeer.server();
  peer.user.onRequestHook = (stream) => stream.connection.drain();
  peer.feed(frame(HEADERS, END_HEADERS, 1, block(CONNECT)), frame(DATA, END_STREAM, 1, "x"));
  assert.equal(peer.user.data.get(1), "x");
});
