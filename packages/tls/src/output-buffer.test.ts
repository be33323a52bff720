import assert from "node:assert/strict";
import { after, test } from "node:test";
import { NativeBuffer } from "@tulle/linux";
import { liveTlsObjects } from "./ledger.ts";
import { openssl } from "./openssl.ts";
import { giveOutput, type OutputBuffer, takeOutput } from "./output-buffer.ts";

after(() => assert.equal(liveTlsObjects().output, 0));

/** As OpenSSL does when it writes a record. */
function append(output: OutputBuffer, bytes: Uint8Array): void {
  const copy = NativeBuffer.from(bytes);
  assert.equal(openssl().BIO_write(output.bio, copy.pointer, copy.length), copy.length);
}

function contents(output: OutputBuffer): Buffer {
  return Buffer.from(output.point().bytes.subarray(output.sent, output.sent + output.pending));
}

test("what is written can be seen without a call, also after the memory has moved", () => {
  const output = takeOutput();
  append(output, Buffer.from("first"));
  assert.equal(output.length, 5);
  assert.equal(contents(output).toString(), "first");
  const large = Buffer.alloc(700_000, "x");
  append(output, large);
  assert.equal(output.length, 700_005);
  assert.ok(contents(output).equals(Buffer.concat([Buffer.from("first"), large])));
  giveOutput(output);
});

test("a buffer that comes back is empty for the next, and it is the same one", () => {
  const first = takeOutput();
  append(first, Buffer.alloc(1000, "secret"));
  first.sent = 10;
  giveOutput(first);
  const second = takeOutput();
  assert.equal(second, first);
  assert.deepEqual([second.length, second.sent, second.pending], [0, 0, 0]);
  append(second, Buffer.from("new"));
  assert.equal(contents(second).toString(), "new");
  giveOutput(second);
});

test("two at a time are two", () => {
  const a = takeOutput();
  const b = takeOutput();
  assert.notEqual(a, b);
  append(a, Buffer.from("a"));
  append(b, Buffer.from("b"));
  assert.equal(contents(a).toString() + contents(b).toString(), "ab");
  giveOutput(a);
  giveOutput(b);
});

test("sent bytes are dropped only when they are many, and what follows stays", () => {
  const output = takeOutput();
  const bytes = Buffer.from(Array.from({ length: 600_000 }, (_, i) => i % 251));
  append(output, bytes);
  output.sent = 200_000;
  output.compact();
  assert.equal(output.sent, 200_000);
  output.sent = 400_000;
  output.compact();
  assert.deepEqual([output.sent, output.length], [0, 200_000]);
  append(output, Buffer.from("tail"));
  assert.ok(contents(output).equals(Buffer.concat([bytes.subarray(400_000), Buffer.from("tail")])));
  giveOutput(output);
});

test("a buffer that grew large is not kept", () => {
  const output = takeOutput();
  append(output, Buffer.alloc(3 << 20));
  giveOutput(output);
  const next = takeOutput();
  assert.notEqual(next, output);
  assert.throws(() => giveTwice(next), /freed twice/);
});

/** Returning a buffer twice would hand one buffer to two sessions: the ledger notices. */
function giveTwice(output: OutputBuffer): void {
  giveOutput(output);
  giveOutput(output);
}
