import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ErrorCode } from "../src/error.ts";
import { CLIENT_PREFACE, Flag, FrameType } from "../src/frame.ts";
import { block, frame, GET, POST, RawPeer, settings, uint32 } from "./raw-peer.ts";

const { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION } =
  FrameType;
const { ACK, END_STREAM, END_HEADERS, PADDED } = Flag;
const PRIORITY_FLAG = Flag.PRIORITY;
const E = ErrorCode;

interface Case {
  readonly name: string;
  readonly send: readonly Buffer[];
  /** The code of the GOAWAY. */
  readonly connection?: number;
  /** `id:code` of the RST_STREAM; the connection goes on. */
  readonly stream?: string;
}

const open = (id: number) => frame(HEADERS, END_HEADERS, id, block(POST));
const get = (id: number) => frame(HEADERS, END_HEADERS | END_STREAM, id, block(GET));
const priority = (dependency: number) => Buffer.concat([uint32(dependency), Buffer.from([15])]);

/** What a client may do wrong (RFC 9113 by section; 5.3 as in RFC 7540), and which error it gets. */
const SECTIONS: Readonly<Record<string, readonly Case[]>> = {
  "3.4 preface": [{ name: "another frame before SETTINGS", send: [], connection: E.PROTOCOL_ERROR }],
  "4.1 frame format": [
    { name: "the reserved bit of a stream id is ignored", send: [frame(PING, 0, 0x8000_0000, Buffer.alloc(8))] },
    { name: "undefined flags are ignored", send: [frame(PING, 0xf6, 0, Buffer.alloc(8))] },
    { name: "unknown types are ignored", send: [frame(0x16, 0xff, 7, "whatever")] },
  ],
  "4.2 frame size": [
    { name: "the longest DATA that is allowed", send: [open(1), frame(DATA, 0, 1, Buffer.alloc(16_384))] },
    {
      name: "DATA that is too long",
      send: [open(1), frame(DATA, 0, 1, Buffer.alloc(16_385))],
      connection: E.FRAME_SIZE_ERROR,
    },
    {
      name: "HEADERS that are too long",
      send: [frame(HEADERS, END_HEADERS, 1, Buffer.alloc(16_385))],
      connection: E.FRAME_SIZE_ERROR,
    },
    {
      name: "SETTINGS that are too long",
      send: [frame(SETTINGS, 0, 0, Buffer.alloc(16_386))],
      connection: E.FRAME_SIZE_ERROR,
    },
    {
      name: "an unknown frame that is too long",
      send: [frame(0x20, 0, 0, Buffer.alloc(16_385))],
      connection: E.FRAME_SIZE_ERROR,
    },
  ],
  "4.3 field compression": [
    {
      name: "a block that cannot be decoded",
      send: [frame(HEADERS, END_HEADERS, 1, Buffer.from([0x80]))],
      connection: E.COMPRESSION_ERROR,
    },
    {
      name: "a block cut off by its END_HEADERS",
      send: [frame(HEADERS, END_HEADERS, 1, Buffer.from([0x40, 5, 1]))],
      connection: E.COMPRESSION_ERROR,
    },
    {
      name: "PRIORITY inside of a block",
      send: [frame(HEADERS, 0, 1, block(GET)), frame(PRIORITY, 0, 1, priority(0))],
      connection: E.PROTOCOL_ERROR,
    },
    {
      name: "another stream's HEADERS inside of a block",
      send: [frame(HEADERS, 0, 1, block(GET)), get(3)],
      connection: E.PROTOCOL_ERROR,
    },
    {
      name: "an unknown frame inside of a block",
      send: [frame(HEADERS, 0, 1, block(GET)), frame(0x20, 0, 1)],
      connection: E.PROTOCOL_ERROR,
    },
  ],
  "5.1 idle": [
    { name: "DATA", send: [frame(DATA, 0, 1, "x")], connection: E.PROTOCOL_ERROR },
    { name: "RST_STREAM", send: [frame(RST_STREAM, 0, 1, uint32(8))], connection: E.PROTOCOL_ERROR },
    { name: "WINDOW_UPDATE", send: [frame(WINDOW_UPDATE, 0, 1, uint32(1))], connection: E.PROTOCOL_ERROR },
    { name: "CONTINUATION", send: [frame(CONTINUATION, END_HEADERS, 1, block(GET))], connection: E.PROTOCOL_ERROR },
    { name: "PRIORITY is allowed", send: [frame(PRIORITY, 0, 1, priority(0))] },
  ],
  "5.1 half-closed (remote)": [
    { name: "DATA", send: [get(1), frame(DATA, 0, 1, "x")], stream: `1:${E.STREAM_CLOSED}` },
    { name: "HEADERS", send: [get(1), get(1)], stream: `1:${E.STREAM_CLOSED}` },
    {
      name: "CONTINUATION",
      send: [get(1), frame(CONTINUATION, END_HEADERS, 1, block(GET))],
      connection: E.PROTOCOL_ERROR,
    },
    {
      name: "WINDOW_UPDATE, PRIORITY and RST_STREAM are allowed",
      send: [
        get(1),
        frame(WINDOW_UPDATE, 0, 1, uint32(1)),
        frame(PRIORITY, 0, 1, priority(0)),
        frame(RST_STREAM, 0, 1, uint32(8)),
      ],
    },
  ],
  "5.1 closed by the peer's RST_STREAM": [
    {
      name: "DATA",
      send: [open(1), frame(RST_STREAM, 0, 1, uint32(8)), frame(DATA, 0, 1, "x")],
      stream: `1:${E.STREAM_CLOSED}`,
    },
    { name: "HEADERS", send: [open(1), frame(RST_STREAM, 0, 1, uint32(8)), get(1)], stream: `1:${E.STREAM_CLOSED}` },
    {
      name: "CONTINUATION",
      send: [open(1), frame(RST_STREAM, 0, 1, uint32(8)), frame(CONTINUATION, END_HEADERS, 1, block(GET))],
      connection: E.PROTOCOL_ERROR,
    },
    {
      name: "WINDOW_UPDATE and RST_STREAM are tolerated",
      send: [
        open(1),
        frame(RST_STREAM, 0, 1, uint32(8)),
        frame(WINDOW_UPDATE, 0, 1, uint32(1)),
        frame(RST_STREAM, 0, 1, uint32(8)),
      ],
    },
  ],
  "5.1.1 stream identifiers": [
    { name: "an even one", send: [get(2)], connection: E.PROTOCOL_ERROR },
    { name: "a smaller one that was skipped", send: [open(5), open(3)], connection: E.PROTOCOL_ERROR },
  ],
  "5.3.1 dependencies": [
    {
      name: "HEADERS that depend on themselves",
      send: [frame(HEADERS, END_HEADERS | END_STREAM | PRIORITY_FLAG, 1, Buffer.concat([priority(1), block(GET)]))],
      stream: `1:${E.PROTOCOL_ERROR}`,
    },
    {
      name: "PRIORITY of an open stream that depends on itself",
      send: [open(1), frame(PRIORITY, 0, 1, priority(1))],
      stream: `1:${E.PROTOCOL_ERROR}`,
    },
    {
      name: "PRIORITY of an idle stream that depends on itself",
      send: [frame(PRIORITY, 0, 1, priority(1))],
      connection: E.PROTOCOL_ERROR,
    },
  ],
  "6.1 DATA": [
    { name: "on stream 0", send: [frame(DATA, 0, 0, "x")], connection: E.PROTOCOL_ERROR },
    {
      name: "padding as long as the payload",
      send: [open(1), frame(DATA, PADDED, 1, "\x05abcd")],
      connection: E.PROTOCOL_ERROR,
    },
    { name: "PADDED without a pad length", send: [open(1), frame(DATA, PADDED, 1)], connection: E.FRAME_SIZE_ERROR },
    { name: "nothing but padding is allowed", send: [open(1), frame(DATA, PADDED, 1, "\x04\0\0\0\0")] },
  ],
  "6.2 HEADERS": [
    { name: "on stream 0", send: [frame(HEADERS, END_HEADERS, 0, block(GET))], connection: E.PROTOCOL_ERROR },
    {
      name: "padding longer than the payload",
      send: [frame(HEADERS, END_HEADERS | PADDED, 1, Buffer.concat([Buffer.from([200]), block(GET)]))],
      connection: E.PROTOCOL_ERROR,
    },
    {
      name: "PADDED without a pad length",
      send: [frame(HEADERS, END_HEADERS | PADDED, 1)],
      connection: E.FRAME_SIZE_ERROR,
    },
    {
      name: "PRIORITY without room for it",
      send: [frame(HEADERS, END_HEADERS | PRIORITY_FLAG, 1, "abc")],
      connection: E.FRAME_SIZE_ERROR,
    },
    {
      name: "padding that leaves no room for the priority",
      send: [frame(HEADERS, END_HEADERS | PADDED | PRIORITY_FLAG, 1, "\x04abcde\0\0")],
      connection: E.PROTOCOL_ERROR,
    },
  ],
  "6.3 PRIORITY": [
    { name: "on stream 0", send: [frame(PRIORITY, 0, 0, priority(1))], connection: E.PROTOCOL_ERROR },
    {
      name: "of a wrong length, on an open stream",
      send: [open(1), frame(PRIORITY, 0, 1, "1234")],
      stream: `1:${E.FRAME_SIZE_ERROR}`,
    },
    {
      name: "of a wrong length, on an idle stream",
      send: [frame(PRIORITY, 0, 1, "1234")],
      connection: E.FRAME_SIZE_ERROR,
    },
  ],
  "6.4 RST_STREAM": [
    { name: "on stream 0", send: [frame(RST_STREAM, 0, 0, uint32(8))], connection: E.PROTOCOL_ERROR },
    { name: "of a wrong length", send: [open(1), frame(RST_STREAM, 0, 1, "123")], connection: E.FRAME_SIZE_ERROR },
  ],
  "6.5 SETTINGS": [
    {
      name: "an acknowledgement with a payload",
      send: [frame(SETTINGS, ACK, 0, settings([1, 1]))],
      connection: E.FRAME_SIZE_ERROR,
    },
    { name: "on a stream", send: [frame(SETTINGS, 0, 1)], connection: E.PROTOCOL_ERROR },
    {
      name: "of a length that is no multiple of six",
      send: [frame(SETTINGS, 0, 0, "12345")],
      connection: E.FRAME_SIZE_ERROR,
    },
    {
      name: "ENABLE_PUSH neither 0 nor 1",
      send: [frame(SETTINGS, 0, 0, settings([2, 2]))],
      connection: E.PROTOCOL_ERROR,
    },
    {
      name: "INITIAL_WINDOW_SIZE above 2^31-1",
      send: [frame(SETTINGS, 0, 0, settings([4, 0x8000_0000]))],
      connection: E.FLOW_CONTROL_ERROR,
    },
    {
      name: "MAX_FRAME_SIZE below 2^14",
      send: [frame(SETTINGS, 0, 0, settings([5, 16_383]))],
      connection: E.PROTOCOL_ERROR,
    },
    {
      name: "MAX_FRAME_SIZE above 2^24-1",
      send: [frame(SETTINGS, 0, 0, settings([5, 16_777_216]))],
      connection: E.PROTOCOL_ERROR,
    },
    {
      name: "ENABLE_CONNECT_PROTOCOL neither 0 nor 1 (RFC 8441)",
      send: [frame(SETTINGS, 0, 0, settings([8, 2]))],
      connection: E.PROTOCOL_ERROR,
    },
    { name: "an unknown setting is ignored", send: [frame(SETTINGS, 0, 0, settings([0xff, 1]))] },
  ],
  "6.6 PUSH_PROMISE and 8.4": [
    {
      name: "from a client",
      send: [open(1), frame(PUSH_PROMISE, END_HEADERS, 1, Buffer.concat([uint32(2), block(GET)]))],
      connection: E.PROTOCOL_ERROR,
    },
  ],
  "6.7 PING": [
    { name: "on a stream", send: [frame(PING, 0, 1, Buffer.alloc(8))], connection: E.PROTOCOL_ERROR },
    { name: "of a wrong length", send: [frame(PING, 0, 0, Buffer.alloc(6))], connection: E.FRAME_SIZE_ERROR },
    { name: "an unsolicited acknowledgement is ignored", send: [frame(PING, ACK, 0, Buffer.alloc(8))] },
  ],
  "6.8 GOAWAY": [
    { name: "on a stream", send: [frame(GOAWAY, 0, 1, uint32(0, 0))], connection: E.PROTOCOL_ERROR },
    { name: "that is too short", send: [frame(GOAWAY, 0, 0, uint32(0))], connection: E.FRAME_SIZE_ERROR },
  ],
  "6.9 WINDOW_UPDATE": [
    { name: "of 0, for the connection", send: [frame(WINDOW_UPDATE, 0, 0, uint32(0))], connection: E.PROTOCOL_ERROR },
    {
      name: "of 0, for a stream",
      send: [open(1), frame(WINDOW_UPDATE, 0, 1, uint32(0))],
      stream: `1:${E.PROTOCOL_ERROR}`,
    },
    { name: "of a wrong length", send: [frame(WINDOW_UPDATE, 0, 0, "123")], connection: E.FRAME_SIZE_ERROR },
    {
      name: "that makes the connection's window overflow",
      send: [frame(WINDOW_UPDATE, 0, 0, uint32(0x7fff_ffff))],
      connection: E.FLOW_CONTROL_ERROR,
    },
    {
      name: "that makes a stream's window overflow",
      send: [open(1), frame(WINDOW_UPDATE, 0, 1, uint32(0x7fff_ffff))],
      stream: `1:${E.FLOW_CONTROL_ERROR}`,
    },
    {
      name: "SETTINGS that make a stream's window overflow",
      send: [
        open(1),
        frame(WINDOW_UPDATE, 0, 1, uint32(0x7fff_0000)),
        frame(SETTINGS, 0, 0, settings([4, 0x7fff_ffff])),
      ],
      connection: E.FLOW_CONTROL_ERROR,
    },
  ],
  "6.10 CONTINUATION": [
    {
      name: "on stream 0",
      send: [frame(HEADERS, 0, 1, block(GET)), frame(CONTINUATION, END_HEADERS, 0)],
      connection: E.PROTOCOL_ERROR,
    },
    { name: "without HEADERS", send: [open(1), frame(CONTINUATION, END_HEADERS, 1)], connection: E.PROTOCOL_ERROR },
    {
      name: "behind END_HEADERS",
      send: [
        frame(HEADERS, 0, 1, block(GET)),
        frame(CONTINUATION, END_HEADERS, 1),
        frame(CONTINUATION, END_HEADERS, 1),
      ],
      connection: E.PROTOCOL_ERROR,
    },
    {
      name: "behind DATA",
      send: [open(1), frame(DATA, 0, 1, "x"), frame(CONTINUATION, END_HEADERS, 1)],
      connection: E.PROTOCOL_ERROR,
    },
    {
      name: "of another stream",
      send: [frame(HEADERS, 0, 1, block(GET)), frame(CONTINUATION, END_HEADERS, 3)],
      connection: E.PROTOCOL_ERROR,
    },
    {
      name: "several in a row are allowed",
      send: [
        frame(HEADERS, END_STREAM, 1, block(GET.slice(0, 2))),
        frame(CONTINUATION, 0, 1, block(GET.slice(2, 3))),
        frame(CONTINUATION, END_HEADERS, 1, block(GET.slice(3))),
      ],
    },
  ],
  "7 error codes": [
    { name: "an unknown one in GOAWAY means nothing special", send: [frame(GOAWAY, 0, 0, uint32(0, 0xff))] },
    {
      name: "an unknown one in RST_STREAM means nothing special",
      send: [open(1), frame(RST_STREAM, 0, 1, uint32(0xff))],
    },
  ],
  "HPACK in a connection": [
    {
      name: "2.3.3 an index beyond the tables",
      send: [frame(HEADERS, END_HEADERS, 1, Buffer.from([0xc6]))],
      connection: E.COMPRESSION_ERROR,
    },
    {
      name: "4.2 a table size update behind a field",
      send: [frame(HEADERS, END_HEADERS, 1, Buffer.concat([block(GET), Buffer.from([0x20])]))],
      connection: E.COMPRESSION_ERROR,
    },
    {
      name: "5.2 Huffman padding of more than seven bits",
      send: [
        frame(
          HEADERS,
          END_HEADERS,
          1,
          Buffer.concat([block(GET), Buffer.from("00 85f2b24a84ff ff 8449509fff".replaceAll(" ", ""), "hex")]),
        ),
      ],
      connection: E.COMPRESSION_ERROR,
    },
    {
      name: "6.3 a table size above the limit",
      send: [frame(HEADERS, END_HEADERS, 1, Buffer.from([0x3f, 0xe2, 0x1f, ...block(GET)]))],
      connection: E.COMPRESSION_ERROR,
    },
  ],
};

for (const [section, cases] of Object.entries(SECTIONS)) {
  describe(`RFC 9113 ${section}`, () => {
    for (const { name, send, connection, stream } of cases) {
      test(name, () => {
        const peer = section.startsWith("3.4") ? new RawPeer("server") : RawPeer.server({ maxFrameSize: 16_384 });
        if (section.startsWith("3.4")) peer.feed(CLIENT_PREFACE, frame(PING, 0, 0, Buffer.alloc(8)));
        for (const bytes of send) peer.feed(bytes);
        peer.feed(frame(PING, 0, 0, "abcdefgh"));
        assert.deepEqual(peer.goAwayCodes, connection === undefined ? [] : [connection]);
        assert.equal(peer.ended, connection !== undefined, "the transport is closed");
        if (connection === undefined) {
          assert.deepEqual(peer.resetCodes, stream === undefined ? [] : [stream]);
          const answer = peer.take(PING).at(-1);
          assert.equal(answer?.payload.toString("latin1"), "abcdefgh", "the connection still answers PING");
          assert.equal(answer.flags, ACK);
        }
      });
    }
  });
}

test("3.4 anything but the preface ends the connection", () => {
  for (const bytes of ["GET / HTTP/1.1\r\nhost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"]) {
    const peer = new RawPeer("server");
    peer.feed(Buffer.from(bytes));
    assert.deepEqual(peer.goAwayCodes, [E.PROTOCOL_ERROR]);
    assert.equal(peer.ended, true);
  }
});

test("3.4 the preface may come octet by octet", () => {
  const peer = new RawPeer("server");
  for (const octet of CLIENT_PREFACE) peer.feed(Buffer.from([octet]));
  peer.feed(frame(SETTINGS, 0, 0));
  assert.equal(peer.user.ready, 1);
  assert.equal(peer.ended, false);
});

test("5.1 a stream that has ended on both sides: DATA and HEADERS are connection errors", () => {
  for (const late of [frame(DATA, 0, 1, "x"), get(1)]) {
    const peer = RawPeer.server();
    peer.user.onRequestHook = (stream) => stream.respond(200, [], true);
    peer.feed(get(1));
    peer.feed(late);
    assert.deepEqual(peer.goAwayCodes, [E.STREAM_CLOSED]);
  }
});

test("5.1 what is under way to a stream that we have reset is ignored, but decoded and counted", () => {
  const peer = RawPeer.server({ connectionWindow: 65_535 });
  peer.user.onRequestHook = (stream, head) => head.method === "POST" && stream.reset(E.CANCEL);
  const indexed = Buffer.concat([
    block(POST),
    Buffer.from([0x40, 1]),
    Buffer.from("x"),
    Buffer.from([1]),
    Buffer.from("y"),
  ]);
  peer.feed(frame(HEADERS, END_HEADERS, 1, block(POST)));
  for (let i = 0; i < 8; i++) peer.feed(frame(DATA, 0, 1, Buffer.alloc(8000)));
  peer.feed(frame(HEADERS, END_HEADERS | END_STREAM, 1, indexed));
  peer.feed(frame(HEADERS, END_HEADERS | END_STREAM, 3, Buffer.concat([block(GET), Buffer.from([0xbe])])));
  assert.deepEqual(peer.resetCodes, [`1:${E.CANCEL}`]);
  assert.deepEqual(peer.user.requests[1]?.head.fields, [["x", "y"]], "the table was kept up to date");
  const returned = peer.windowUpdates.reduce((sum, update) => sum + Number(update.split(":")[1]), 0);
  assert.ok(returned >= 48_000, "the connection's window is returned");
});

test("5.1.2 a stream above the limit is refused", () => {
  const peer = RawPeer.server({ maxConcurrentStreams: 2 });
  for (const id of [1, 3, 5]) peer.feed(open(id));
  assert.deepEqual(peer.resetCodes, [`5:${E.REFUSED_STREAM}`]);
  assert.equal(peer.user.requests.length, 2);
  peer.feed(frame(RST_STREAM, 0, 1, uint32(8)));
  peer.feed(open(7));
  assert.equal(peer.user.requests.length, 3);
});

test("6.5.3 SETTINGS are applied in order and acknowledged", () => {
  const peer = RawPeer.server();
  peer.feed(frame(SETTINGS, 0, 0, settings([4, 100], [4, 1])));
  assert.deepEqual(
    peer.take(SETTINGS).map((f) => [f.flags, f.payload.length]),
    [[ACK, 0]],
  );
  assert.equal(peer.connection.settings.initialWindowSize, 1);
});
