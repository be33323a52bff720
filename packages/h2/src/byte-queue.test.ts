import assert from "node:assert/strict";
import { test } from "node:test";
import { NativeBuffer } from "@tulle/linux";
import fc from "fast-check";
import { ByteQueue } from "./byte-queue.ts";
import { SMALL_BUFFER, ThreadMemory } from "./memory.ts";

class Budget {
  taken = 0;
  readonly limit: number;
  constructor(limit: number) {
    this.limit = limit;
  }
  tryTake(bytes: number): boolean {
    if (this.taken + bytes > this.limit) return false;
    this.taken += bytes;
    return true;
  }
  give(bytes: number): void {
    this.taken -= bytes;
  }
}

test("bytes come out as they went in, and every buffer goes back", () => {
  const source = NativeBuffer.from(Buffer.from(Array.from({ length: 100_000 }, (_, i) => i % 251)));
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(40_000), fc.nat(40_000)), { maxLength: 20 }), (steps) => {
      const memory = new ThreadMemory();
      const budget = new Budget(Number.POSITIVE_INFINITY);
      const queue = new ByteQueue(memory, budget);
      const input: Buffer[] = [];
      const output: Buffer[] = [];
      const drain = (limit: number) => {
        for (let left = limit; left > 0 && queue.length > 0; ) {
          const count = Math.min(left, queue.available);
          output.push(Buffer.from(queue.buffer.bytes.subarray(queue.offset, queue.offset + count)));
          queue.shift(count);
          left -= count;
        }
      };
      for (const [pushed, shifted] of steps) {
        queue.push(source, 7, pushed);
        input.push(source.bytes.subarray(7, 7 + pushed));
        drain(shifted);
      }
      drain(Number.POSITIVE_INFINITY);
      assert.ok(Buffer.concat(output).equals(Buffer.concat(input)));
      assert.equal(memory.leased, 0);
      assert.equal(budget.taken, 0);
    }),
  );
});

test("a peer that sends single bytes is charged for whole buffers, not for one buffer a byte", () => {
  const memory = new ThreadMemory();
  const queue = new ByteQueue(memory, new Budget(SMALL_BUFFER));
  const one = NativeBuffer.alloc(1);
  for (let i = 0; i < SMALL_BUFFER; i++) assert.ok(queue.push(one, 0, 1));
  assert.equal(memory.leased, SMALL_BUFFER);
  assert.equal(queue.push(one, 0, 1), false, "the budget is used up");
  queue.clear();
  assert.equal(memory.leased, 0);
});
