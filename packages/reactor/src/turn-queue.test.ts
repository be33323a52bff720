import assert from "node:assert/strict";
import { test } from "node:test";
import { SlotTable } from "./slot-table.ts";
import { TurnQueue } from "./turn-queue.ts";

const task = (run: () => void) => ({ deferred: false, run });
const execute = (each: { run(): void }) => each.run();

test("tasks run in order, each once, however often it was added", () => {
  const queue = new TurnQueue();
  const order: string[] = [];
  const [a, b] = [task(() => order.push("a")), task(() => order.push("b"))];
  for (const each of [a, b, a, b]) queue.add(each);
  assert.equal(queue.size, 2);
  assert.equal(queue.run(execute), 2);
  assert.deepEqual(order, ["a", "b"]);
  assert.equal(queue.run(execute), 0);
  assert.equal(a.deferred, false);
});

test("what is added while tasks run waits for the next run", () => {
  const queue = new TurnQueue();
  const order: string[] = [];
  const late = task(() => order.push("late"));
  const first = task(() => {
    order.push("first");
    queue.add(late);
    queue.add(first);
  });
  queue.add(first);
  queue.run(execute);
  assert.deepEqual(order, ["first"]);
  assert.equal(queue.size, 2);
  queue.run(execute);
  assert.deepEqual(order, ["first", "late", "first"]);
});

test("clear forgets what waits, and it can be added again", () => {
  const queue = new TurnQueue();
  let runs = 0;
  const once = task(() => runs++);
  queue.add(once);
  queue.clear();
  assert.equal(queue.run(execute), 0);
  queue.add(once);
  assert.equal(queue.run(execute), 1);
  assert.equal(runs, 1);
});

test("a slot is used again, its generation is not", () => {
  const table = new SlotTable<object>();
  const [a, b] = [{}, {}];
  const slot = table.add(a);
  const generation = table.generation(slot);
  assert.equal(table.get(slot, generation), a);
  table.remove(slot);
  table.remove(slot);
  assert.equal(table.get(slot, generation), undefined);
  assert.equal(table.add(b), slot);
  assert.equal(table.get(slot, generation), undefined, "an event of the first does not reach the second");
  assert.equal(table.get(slot, table.generation(slot)), b);
  assert.deepEqual(table.all(), [b]);
  assert.equal(table.get(99, 0), undefined);
});
