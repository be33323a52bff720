import assert from "node:assert/strict";
import { test } from "node:test";
import { NativeBuffer, NativeView } from "./native-buffer.ts";

const INSIDE: readonly (readonly [number, number])[] = [
  [0, 0],
  [0, 10],
  [10, 0],
  [9, 1],
  [3, 4],
];
const OUTSIDE: readonly (readonly [number, number])[] = [
  [0, 11],
  [10, 1],
  [11, 0],
  [-1, 1],
  [0, -1],
  [5, -1],
  [0.5, 1],
  [0.5, 0.5],
  [0, 0.5],
  [Number.NaN, 1],
  [0, Number.NaN],
  [Number.POSITIVE_INFINITY, 0],
  [0, Number.POSITIVE_INFINITY],
  [2 ** 53, 1],
  [-(2 ** 53), 2 ** 53],
];

function view(bytes: NativeBuffer): NativeView {
  const view = new NativeView();
  view.point(bytes.pointer, bytes.length);
  return view;
}

for (const [shape, make] of [
  ["own memory", () => NativeBuffer.alloc(10)],
  ["a view", () => view(NativeBuffer.alloc(10))],
] as const) {
  test(`${shape}: ranges inside are accepted, all others refused`, () => {
    const buffer = make();
    for (const [offset, length] of INSIDE) buffer.check(offset, length);
    for (const [offset, length] of OUTSIDE) {
      assert.throws(() => buffer.check(offset, length), RangeError, `${offset}+${length}`);
    }
  });

  test(`${shape}: pointerAt is the pointer plus the offset, in any order`, () => {
    const buffer = make();
    for (const offset of [0, 3, 3, 0, 9, 1, 0]) assert.equal(buffer.pointerAt(offset), buffer.pointer + BigInt(offset));
  });
}

test("memory whose address is known can be neither transferred nor detached", () => {
  const buffer = NativeBuffer.alloc(10);
  const memory = buffer.bytes.buffer as ArrayBuffer;
  assert.throws(() => structuredClone(memory, { transfer: [memory] }), { name: "DataCloneError" });
  assert.throws(() => memory.transfer(), TypeError);
  assert.equal(buffer.bytes.length, 10);
});

test("from copies", () => {
  const source = Buffer.from("abc");
  const buffer = NativeBuffer.from(source);
  source.fill(0);
  assert.equal(buffer.bytes.toString(), "abc");
});

test("a view shows what it is pointed at, as a copy made on demand", () => {
  const first = NativeBuffer.from(Buffer.from("first"));
  const second = NativeBuffer.from(Buffer.from("second"));
  const window = view(first);
  assert.equal(window.bytes.toString(), "first");
  assert.equal(window.bytes, window.bytes);
  window.point(second.pointer, second.length);
  assert.equal(window.length, 6);
  assert.equal(window.bytes.toString(), "second");
  assert.equal(window.pointerAt(2), second.pointer + 2n);
  window.bytes.fill(0);
  assert.equal(second.bytes.toString(), "second");
  window.point(0n, 0);
  assert.equal(window.bytes.length, 0);
  assert.throws(() => window.check(0, 1), RangeError);
});
