import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLog, sleep } from "@tulle/base";
import { until } from "@tulle/lab";
import { WorkQueue } from "./work-queue.ts";

test("a key is worked on alone, and once more when it was poked meanwhile", async () => {
  let running = 0;
  let runs = 0;
  const gate = Promise.withResolvers<void>();
  const queue = new WorkQueue({
    log: silentLog,
    work: async () => {
      assert.equal(++running, 1);
      runs++;
      await gate.promise;
      running--;
      return undefined;
    },
  });
  for (let i = 0; i < 5; i++) queue.poke("a");
  await until(() => running === 1, { what: "the first run" });
  for (let i = 0; i < 5; i++) queue.poke("a");
  gate.resolve();
  await until(() => queue.pending === 0, { what: "the queue to be idle" });
  assert.equal(runs, 2);
});

test("a key that is stuck holds neither the others nor, for good, its place", async () => {
  const done: string[] = [];
  const queue = new WorkQueue({
    log: silentLog,
    concurrency: 1,
    stuckMs: 30,
    work: (key) => {
      done.push(key);
      return key === "stuck" ? new Promise(() => {}) : Promise.resolve(undefined);
    },
  });
  queue.poke("stuck");
  queue.poke("other");
  await until(() => done.includes("other"), { what: "the other key" });
  queue.poke("stuck");
  await sleep(5);
  assert.deepEqual(done, ["stuck", "other"], "it is never worked on twice at a time");
  await queue.close(0);
});

test("what fails is tried again, ever later, and what asks for it is looked at again", async () => {
  const times: number[] = [];
  const queue = new WorkQueue({
    log: silentLog,
    work: async () => {
      times.push(performance.now());
      if (times.length < 5) throw new Error("not yet");
      return times.length === 5 ? 1 : undefined;
    },
  });
  queue.poke("a");
  await until(() => queue.pending === 0, { what: "success" });
  assert.equal(times.length, 6);
  assert.ok((times[4] ?? 0) - (times[3] ?? 0) >= 30, "5, 10, 20, 40 ms");
});

test("an exclusive action waits for its turn, and its failure is the caller's alone", async () => {
  const order: string[] = [];
  const gate = Promise.withResolvers<void>();
  const queue = new WorkQueue({
    log: silentLog,
    work: async () => {
      order.push("work");
      await gate.promise;
      return undefined;
    },
  });
  queue.poke("a");
  const failing = queue.exclusive("a", async () => {
    order.push("action");
    throw new Error("mine");
  });
  gate.resolve();
  await assert.rejects(failing, /mine/);
  assert.deepEqual(order, ["work", "action"]);
  const hold = Promise.withResolvers<void>();
  const many = Array.from({ length: 5 }, () => queue.exclusive("a", () => hold.promise));
  await assert.rejects(
    queue.exclusive("a", async () => {}),
    /busy with this pod/,
  );
  hold.resolve();
  await Promise.all(many);
});

test("after closing nothing is started", async () => {
  const queue = new WorkQueue({ log: silentLog, work: () => Promise.reject(new Error("no")) });
  queue.poke("later", 1);
  await queue.close(10);
  await sleep(5);
  await assert.rejects(
    queue.exclusive("a", async () => {}),
    /busy/,
  );
});
