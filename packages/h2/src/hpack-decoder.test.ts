import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ErrorCode, Http2Error } from "./error.ts";
import { HpackDecoder } from "./hpack-decoder.ts";

function decode(decoder: HpackDecoder, hex: string): (readonly [string, string])[] {
  const bytes = Buffer.from(hex.replaceAll(" ", ""), "hex");
  return decoder.decode(bytes, 0, bytes.length).fields.map(([name, value]) => [name, value]);
}

const REQUEST_1 = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "www.example.com"],
];
const REQUEST_2 = [...REQUEST_1, ["cache-control", "no-cache"]];
const REQUEST_3 = [
  [":method", "GET"],
  [":scheme", "https"],
  [":path", "/index.html"],
  [":authority", "www.example.com"],
  ["custom-key", "custom-value"],
];
const response = (status: string, date: string, ...more: string[][]) => [
  [":status", status],
  ["cache-control", "private"],
  ["date", date],
  ["location", "https://www.example.com"],
  ...more,
];
const RESPONSES = [
  response("302", "Mon, 21 Oct 2013 20:13:21 GMT"),
  response("307", "Mon, 21 Oct 2013 20:13:21 GMT"),
  response(
    "200",
    "Mon, 21 Oct 2013 20:13:22 GMT",
    ["content-encoding", "gzip"],
    ["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"],
  ),
];

/** RFC 7541 appendix C: blocks, what they say, and the table's size afterwards. */
const SEQUENCES: readonly { name: string; table: number; blocks: [hex: string, fields: string[][], size: number][] }[] =
  [
    {
      name: "C.2.1 literal with indexing",
      table: 4096,
      blocks: [["400a637573746f6d2d6b65790d637573746f6d2d686561646572", [["custom-key", "custom-header"]], 55]],
    },
    {
      name: "C.2.2 literal without indexing",
      table: 4096,
      blocks: [["040c2f73616d706c652f70617468", [[":path", "/sample/path"]], 0]],
    },
    {
      name: "C.2.3 literal never indexed",
      table: 4096,
      blocks: [["100870617373776f726406736563726574", [["password", "secret"]], 0]],
    },
    { name: "C.2.4 indexed", table: 4096, blocks: [["82", [[":method", "GET"]], 0]] },
    {
      name: "C.3 requests without Huffman",
      table: 4096,
      blocks: [
        ["828684410f7777772e6578616d706c652e636f6d", REQUEST_1, 57],
        ["828684be58086e6f2d6361636865", REQUEST_2, 110],
        ["828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", REQUEST_3, 164],
      ],
    },
    {
      name: "C.4 requests with Huffman",
      table: 4096,
      blocks: [
        ["828684418cf1e3c2e5f23a6ba0ab90f4ff", REQUEST_1, 57],
        ["828684be5886a8eb10649cbf", REQUEST_2, 110],
        ["828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", REQUEST_3, 164],
      ],
    },
    {
      name: "C.5 responses without Huffman, with eviction",
      table: 256,
      blocks: [
        [
          "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54" +
            "6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
          RESPONSES[0]!,
          222,
        ],
        ["4803333037c1c0bf", RESPONSES[1]!, 222],
        [
          "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48" +
            "514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
          RESPONSES[2]!,
          215,
        ],
      ],
    },
    {
      name: "C.6 responses with Huffman, with eviction",
      table: 256,
      blocks: [
        [
          "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
          RESPONSES[0]!,
          222,
        ],
        ["4883640effc1c0bf", RESPONSES[1]!, 222],
        [
          "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27" +
            "087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
          RESPONSES[2]!,
          215,
        ],
      ],
    },
  ];

for (const { name, table, blocks } of SEQUENCES) {
  test(`RFC 7541 ${name}`, () => {
    const decoder = new HpackDecoder({ maxTableSize: table });
    for (const [hex, fields, size] of blocks) {
      assert.deepEqual(decode(decoder, hex), fields);
      assert.equal(decoder.tableSize, size);
    }
  });
}

test("a never-indexed field is marked, so that it can be forwarded as one", () => {
  const bytes = Buffer.from("100870617373776f726406736563726574", "hex");
  assert.deepEqual(new HpackDecoder().decode(bytes, 0, bytes.length).fields, [["password", "secret", true]]);
});

const MALFORMED: readonly (readonly [what: string, hex: string])[] = [
  ["index 0 (§6.1)", "80"],
  ["an index beyond both tables (§2.3.3)", "be"],
  ["a literal's name index beyond both tables (§2.3.3)", "7f0061"],
  ["an integer that never ends (§5.1)", "ffffffffffffff7f"],
  ["a table size update above the limit (§6.3)", "3fe21f"],
  ["a table size update behind a field (§4.2)", "8220"],
  ["a string longer than its block (§5.2)", "400a6162"],
  ["a block that ends within an integer", "7f"],
  ["a block that ends before a value", "4001"],
  ["Huffman padding longer than seven bits (§5.2)", "00 85f2b24a84ff 84 49509fff".replaceAll(" ", "")],
  ["EOS in a Huffman string (§5.2)", "00017884ffffffff"],
];

for (const [what, hex] of MALFORMED) {
  test(`${what} is a compression error`, () => {
    assert.throws(
      () => decode(new HpackDecoder(), hex),
      (error) => error instanceof Http2Error && error.code === ErrorCode.COMPRESSION_ERROR,
    );
  });
}

test("a section above the limit is decoded for the table's sake, but not stored", () => {
  const decoder = new HpackDecoder({ maxListSize: 100 });
  const bomb = Buffer.concat([
    Buffer.from("400a637573746f6d2d6b65790d637573746f6d2d686561646572", "hex"),
    Buffer.alloc(10_000, 0xbe),
  ]);
  const { fields, tooLarge } = decoder.decode(bomb, 0, bomb.length);
  assert.equal(tooLarge, true);
  assert.equal(fields.length, 1);
  assert.deepEqual(decode(decoder, "be"), [["custom-key", "custom-header"]]);
});

test("no bytes make it throw anything but a compression error, nor let the table outgrow its limit", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 5 }), (blocks) => {
      const decoder = new HpackDecoder({ maxTableSize: 512, maxListSize: 2048 });
      for (const bytes of blocks) {
        try {
          const { fields } = decoder.decode(Buffer.from(bytes), 0, bytes.length);
          assert.ok(fields.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0) <= 2048);
        } catch (error) {
          assert.ok(error instanceof Http2Error && error.code === ErrorCode.COMPRESSION_ERROR, String(error));
        }
        assert.ok(decoder.tableSize <= 512);
      }
    }),
    { numRuns: 2000 },
  );
});
