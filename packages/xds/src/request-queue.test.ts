import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestQueue } from "./request-queue.ts";

test("what is pushed comes out in order, before and after somebody waits", async () => {
  const queue = new RequestQueue<number>(10);
  queue.push(1);
  queue.push(2);
  const seen: number[] = [];
  const reader = (async () => {
    for await (const item of queue) seen.push(item);
  })();
  await new Promise((resolve) => setImmediate(resolve));
  queue.push(3);
  queue.end();
  queue.push(4);
  await reader;
  assert.deepEqual(seen, [1, 2, 3]);
});

test("a queue that nobody reads is bounded", () => {
  const queue = new RequestQueue<number>(2);
  queue.push(1);
  queue.push(2);
  assert.throws(() => queue.push(3), /more than 2 requests wait/);
});
