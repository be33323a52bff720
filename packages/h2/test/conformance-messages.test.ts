import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ErrorCode } from "../src/error.ts";
import { Flag, FrameType, writeUint32 } from "../src/frame.ts";
import { block, frame, GET, POST, RawPeer, settings, uint32 } from "./raw-peer.ts";

const { DATA, HEADERS, SETTINGS, WINDOW_UPDATE } = FrameType;
const { END_STREAM, END_HEADERS } = Flag;
type Fields = readonly (readonly [string, string])[];

describe("RFC 9113 8.1 messages to a server", () => {
  const post = (...more: Fields) => frame(HEADERS, END_HEADERS, 1, block([...POST, ...more]));
  const trailers = (flags: number, fields: Fields) => frame(HEADERS, flags, 1, block(fields));
  const cases: readonly (readonly [what: string, send: readonly Buffer[]])[] = [
    ["an upper-case name", [post(["X-Y", "1"])]],
    ["a duplicate pseudo header", [post([":path", "/"])]],
    ["trailers that do not end the stream", [post(), trailers(END_HEADERS, [["x", "1"]])]],
    ["a pseudo header in trailers", [post(), trailers(END_HEADERS | END_STREAM, [[":method", "GET"]])]],
    ["an upper-case name in trailers", [post(), trailers(END_HEADERS | END_STREAM, [["X", "1"]])]],
    ["content-length above one DATA", [post(["content-length", "2"]), frame(DATA, END_STREAM, 1, "x")]],
    ["content-length below one DATA", [post(["content-length", "1"]), frame(DATA, END_STREAM, 1, "xx")]],
    [
      "content-length above the sum of DATA",
      [post(["content-length", "9"]), frame(DATA, 0, 1, "xx"), frame(DATA, END_STREAM, 1, "xx")],
    ],
    [
      "content-length below the sum of DATA",
      [post(["content-length", "3"]), frame(DATA, 0, 1, "xx"), frame(DATA, 0, 1, "xx")],
    ],
    [
      "content-length above DATA that ends with trailers",
      [post(["content-length", "3"]), frame(DATA, 0, 1, "xx"), trailers(END_HEADERS | END_STREAM, [["x", "1"]])],
    ],
    [
      "content-length without a body",
      [frame(HEADERS, END_HEADERS | END_STREAM, 1, block([...POST, ["content-length", "1"]]))],
    ],
  ];
  for (const [what, send] of cases) {
    test(`${what} is a stream error`, () => {
      const peer = RawPeer.server();
      peer.feed(...send);
      assert.deepEqual(peer.resetCodes, [`1:${ErrorCode.PROTOCOL_ERROR}`]);
      assert.equal(peer.ended, false);
    });
  }

  test("a request with body and trailers arrives whole", () => {
    const peer = RawPeer.server();
    peer.feed(post(["content-length", "4"]), frame(DATA, Flag.PADDED, 1, "\x02ab\0\0"), frame(DATA, 0, 1, "cd"));
    peer.feed(trailers(END_HEADERS | END_STREAM, [["grpc-status", "0"]]));
    assert.equal(peer.user.data.get(1), "abcd");
    assert.deepEqual(peer.user.ends, [{ id: 1, trailers: [["grpc-status", "0"]] }]);
  });

  test("a header section above the limit is answered with 431, and the table stays right", () => {
    const peer = RawPeer.server({ maxHeaderListSize: 1024 });
    const big: Fields = [...GET, ["x", "y".repeat(2000)]];
    peer.request(1, big, END_HEADERS | END_STREAM);
    assert.equal(
      peer.decoder.decode(peer.take(HEADERS)[0]!.payload, 0, peer.take(HEADERS)[0]!.payload.length).fields[0]?.[1],
      "431",
    );
    assert.equal(peer.user.requests.length, 0);
    peer.request(3, GET, END_HEADERS | END_STREAM);
    assert.equal(peer.user.requests.length, 1);
  });
});

describe("RFC 9113 8.1 messages to a client", () => {
  function ask(method = "GET"): RawPeer {
    const peer = RawPeer.client();
    const section: [string, string][] =
      method === "CONNECT"
        ? [
            [":method", method],
            [":authority", "a:1"],
          ]
        : [[":method", method], ...GET.slice(1).map((f): [string, string] => [f[0], f[1]])];
    assert.equal(peer.connection.open(section, false, peer.user)?.id, 1);
    peer.timers.settle();
    return peer;
  }
  const head = (flags: number, ...fields: Fields) => frame(HEADERS, END_HEADERS | flags, 1, block(fields));

  const malformed: readonly (readonly [what: string, send: readonly Buffer[]])[] = [
    ["no :status", [head(0, ["x", "1"])]],
    ["DATA before the response", [frame(DATA, 0, 1, "x")]],
    ["an interim response that ends the stream", [head(END_STREAM, [":status", "100"])]],
    ["status 101", [head(0, [":status", "101"])]],
    [
      "content-length that does not match",
      [head(0, [":status", "200"], ["content-length", "1"]), frame(DATA, END_STREAM, 1, "xx")],
    ],
    ["connection-specific fields", [head(0, [":status", "200"], ["connection", "close"])]],
  ];
  for (const [what, send] of malformed) {
    test(`${what} is a stream error`, () => {
      const peer = ask();
      peer.feed(...send);
      assert.deepEqual(peer.resetCodes, [`1:${ErrorCode.PROTOCOL_ERROR}`]);
      assert.deepEqual(peer.user.resets, [{ id: 1, code: ErrorCode.PROTOCOL_ERROR, remote: false }]);
    });
  }

  test("interim responses come before the final one", () => {
    const peer = ask();
    peer.feed(
      head(0, [":status", "103"], ["link", "x"]),
      head(0, [":status", "200"]),
      frame(DATA, END_STREAM, 1, "ok"),
    );
    assert.deepEqual(
      peer.user.responses.map((r) => r.status),
      [103, 200],
    );
    assert.equal(peer.user.data.get(1), "ok");
    assert.equal(peer.user.ends.length, 1);
  });

  test("content-length of an answer to HEAD and to CONNECT means nothing", () => {
    for (const method of ["HEAD", "CONNECT"]) {
      const peer = ask(method);
      peer.feed(head(END_STREAM, [":status", "200"], ["content-length", "10"]));
      assert.deepEqual(peer.resetCodes, []);
      assert.equal(peer.user.ends.length, 1);
    }
  });

  test("a pushed stream is a connection error", () => {
    const peer = ask();
    peer.feed(frame(FrameType.PUSH_PROMISE, END_HEADERS, 1, Buffer.concat([uint32(2), block(GET)])));
    assert.deepEqual(peer.goAwayCodes, [ErrorCode.PROTOCOL_ERROR]);
  });

  test("a server that enables push is in error", () => {
    const peer = RawPeer.client();
    peer.feed(frame(SETTINGS, 0, 0, settings([2, 1])));
    assert.deepEqual(peer.goAwayCodes, [ErrorCode.PROTOCOL_ERROR]);
  });
});

describe("our own header sections", () => {
  test("one that is longer than a frame is continued", () => {
    const peer = RawPeer.client({}, settings([6, 1_000_000]));
    const value = "\x7f~".replace("\x7f", "|").repeat(20_000);
    peer.connection.open([[":method", "GET"], ...GET.slice(1), ["x", value]], true, peer.user);
    peer.timers.settle();
    const frames = peer.frames.filter((f) => f.type === HEADERS || f.type === FrameType.CONTINUATION);
    assert.ok(frames.length >= 3);
    assert.ok(frames.every((f) => f.payload.length <= 16_384));
    assert.deepEqual(
      frames.map((f) => f.flags & END_HEADERS),
      frames.map((_, i) => (i === frames.length - 1 ? END_HEADERS : 0)),
    );
    const whole = Buffer.concat(frames.map((f) => f.payload));
    assert.deepEqual(peer.decoder.decode(whole, 0, whole.length).fields.at(-1), ["x", value]);
  });

  test("the peer's table size is obeyed from the next block on", () => {
    const peer = RawPeer.client({}, settings([1, 0]));
    peer.connection.open([[":method", "GET"], ...GET.slice(1), ["x-y", "z"]], true, peer.user);
    peer.timers.settle();
    assert.equal(peer.take(HEADERS)[0]?.payload[0], 0x20, "the block begins with a table size of 0");
  });
});

test("WINDOW_UPDATE with the reserved bit set counts its 31 bits", () => {
  const peer = RawPeer.server();
  const increment = Buffer.alloc(4);
  writeUint32(increment, 0, 0x8000_0005);
  peer.feed(frame(WINDOW_UPDATE, 0, 0, increment));
  assert.equal(peer.connection.sendWindow, 65_540);
});
