import assert from "node:assert/strict";
import { test } from "node:test";
import { FetchQueue } from "./fetch-queue.ts";

function drain(queue: FetchQueue<string>): string[] {
  const items: string[] = [];
  for (let item = queue.next(); item !== undefined; item = queue.next()) items.push(item);
  return items;
}

test("the urgent come first, and among equals who came first", () => {
  const queue = new FetchQueue<string>();
  queue.add("b1", "background");
  queue.add("w1", "warmup");
  queue.add("r1", "realtime");
  queue.add("w2", "warmup");
  queue.add("r2", "realtime");
  assert.deepEqual(drain(queue), ["r1", "r2", "w1", "w2", "b1"]);
});

test("an item waits once, is moved forward when it becomes urgent and never back", () => {
  const queue = new FetchQueue<string>();
  queue.add("a", "warmup");
  queue.add("b", "warmup");
  queue.add("b", "realtime");
  queue.add("b", "background");
  queue.add("a", "warmup");
  assert.equal(queue.size, 2);
  assert.deepEqual(drain(queue), ["b", "a"]);
});

test("a deleted item is gone", () => {
  const queue = new FetchQueue<string>();
  queue.add("a", "warmup");
  queue.delete("a");
  assert.equal(queue.has("a"), false);
  assert.equal(queue.next(), undefined);
});
