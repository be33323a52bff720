import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ErrorCode, Http2Error } from "./error.ts";
import { huffmanDecode, huffmanEncode, huffmanLength } from "./huffman.ts";

function encode(text: string): Buffer {
  const target = Buffer.alloc(text.length * 4);
  const length = huffmanEncode(text, target, 0);
  assert.equal(length, huffmanLength(text));
  return target.subarray(0, length);
}

function decode(bytes: Buffer): string {
  const target = Buffer.alloc(Math.ceil((bytes.length * 8) / 5));
  return target.toString("latin1", 0, huffmanDecode(bytes, 0, bytes.length, target));
}

const EXAMPLES: readonly (readonly [text: string, hex: string])[] = [
  ["www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"],
  ["no-cache", "a8eb10649cbf"],
  ["custom-key", "25a849e95ba97d7f"],
  ["custom-value", "25a849e95bb8e8b4bf"],
  ["302", "6402"],
  ["private", "aec3771a4b"],
  ["Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"],
  ["https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"],
  ["", ""],
];

for (const [text, hex] of EXAMPLES) {
  test(`RFC 7541 codes ${JSON.stringify(text)} as ${hex}`, () => {
    assert.equal(encode(text).toString("hex"), hex);
    assert.equal(decode(Buffer.from(hex, "hex")), text);
  });
}

test("every octet survives", () => {
  const all = String.fromCharCode(...Array.from({ length: 256 }, (_, i) => i));
  assert.equal(decode(encode(all)), all);
});

test("any octets survive", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const text = Buffer.from(bytes).toString("latin1");
      assert.equal(decode(encode(text)), text);
    }),
  );
});

const REFUSED: readonly (readonly [what: string, hex: string])[] = [
  ["padding of eight ones", "1fff"],
  ["padding with zeros", "18"],
  ["EOS", "ffffffff"],
  ["EOS inside of a string", "1ffffffff8"],
];

for (const [what, hex] of REFUSED) {
  test(`${what} is refused`, () => {
    assert.throws(
      () => decode(Buffer.from(hex, "hex")),
      (error) => error instanceof Http2Error && error.code === ErrorCode.COMPRESSION_ERROR,
    );
  });
}
