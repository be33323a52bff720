import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type HeaderField, HpackDecoder } from "./hpack-decoder.ts";
import { HpackEncoder } from "./hpack-encoder.ts";

function encode(encoder: HpackEncoder, fields: readonly HeaderField[]): Buffer {
  const target = Buffer.alloc(HpackEncoder.room(fields));
  return target.subarray(0, encoder.encode(fields, target, 0));
}

function roundTrip(
  encoder: HpackEncoder,
  decoder: HpackDecoder,
  fields: readonly HeaderField[],
): readonly HeaderField[] {
  const bytes = encode(encoder, fields);
  return decoder.decode(bytes, 0, bytes.length).fields;
}

test("what repeats costs one octet the second time", () => {
  const encoder = new HpackEncoder();
  const fields: HeaderField[] = [
    [":method", "CONNECT"],
    [":authority", "10.0.0.1:80"],
    ["baggage", "k8s.cluster.name=Kubernetes"],
  ];
  assert.ok(encode(encoder, fields).length > 30);
  assert.equal(encode(encoder, fields).length, 3);
});

test("secrets are never indexed, whoever sends them", () => {
  for (const name of ["authorization", "proxy-authorization", "cookie", "set-cookie"]) {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    for (let i = 0; i < 2; i++)
      assert.deepEqual(roundTrip(encoder, decoder, [[name, "s3cret"]]), [[name, "s3cret", true]]);
    assert.equal(encoder.tableSize, 0);
  }
});

test("a field that was received as never-indexed stays so", () => {
  const fields: HeaderField[] = [["x-token", "abc", true]];
  assert.deepEqual(roundTrip(new HpackEncoder(), new HpackDecoder(), fields), fields);
});

test("values that change with every message do not fill the table", () => {
  const encoder = new HpackEncoder();
  for (let i = 0; i < 100; i++)
    encode(encoder, [
      ["traceparent", `00-${i}`],
      ["content-length", String(i)],
    ]);
  assert.equal(encoder.tableSize, 0);
});

test("a smaller table is announced at the start of the next block, and a bigger one after it too", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  const fields: HeaderField[] = [["x-one", "1"]];
  roundTrip(encoder, decoder, fields);
  encoder.setPeerTableSize(0);
  encoder.setPeerTableSize(2048);
  const bytes = encode(encoder, fields);
  assert.equal(bytes.toString("hex", 0, 4), "203fe10f", "0 first, since entries were lost, then 2048");
  assert.deepEqual(decoder.decode(bytes, 0, bytes.length).fields, fields);
});

test("a peer that allows a huge table does not make ours huge", () => {
  const encoder = new HpackEncoder();
  encoder.setPeerTableSize(1 << 30);
  for (let i = 0; i < 1000; i++) encode(encoder, [[`x-${i}`, "a".repeat(100)]]);
  assert.ok(encoder.tableSize <= 4096);
});

test("what no header may hold is not written", () => {
  for (const value of ["a\r\nb", "a\0", "\u010a"]) {
    assert.throws(() => encode(new HpackEncoder(), [["x", value]]), TypeError);
  }
});

const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/);
const value = fc.string({
  unit: fc
    .integer({ min: 32, max: 255 })
    .filter((c) => c !== 127)
    .map((c) => String.fromCharCode(c)),
});

test("any sections survive any sequence of table sizes", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          size: fc.option(fc.integer({ min: 0, max: 6000 })),
          fields: fc.array(fc.tuple(name, value), { maxLength: 12 }),
        }),
        { maxLength: 12 },
      ),
      (sections) => {
        const encoder = new HpackEncoder();
        const decoder = new HpackDecoder();
        for (const { size, fields } of sections) {
          if (size !== null) encoder.setPeerTableSize(size);
          const got = roundTrip(encoder, decoder, fields);
          assert.deepEqual(
            got.map(([n, v]) => [n, v]),
            fields,
          );
          assert.equal(encoder.tableSize, decoder.tableSize);
        }
      },
    ),
  );
});
