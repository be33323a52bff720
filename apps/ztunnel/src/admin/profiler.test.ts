import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { readProfile } from "./pprof-reader.ts";
import { Profiler } from "./profiler.ts";

/** A thread that never returns to its event loop, like a data thread, until it is told to end. */
function busyThread() {
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const code = `
    const { workerData } = require("node:worker_threads");
    const kept = [];
    function burnInThread() { let x = 0; for (let i = 0; i < 1e5; i++) x += Math.sqrt(i); return x; }
    function keepInThread() { if (kept.length < 200) kept.push(new Array(10000).fill(kept.length)); }
    while (Atomics.load(workerData, 0) === 0) { burnInThread(); keepInThread(); Atomics.wait(workerData, 0, 0, 1); }`;
  const worker = new Worker(code, { eval: true, workerData: stop, name: "data-0" });
  return {
    worker,
    end: async () => {
      Atomics.store(stop, 0, 1);
      await once(worker, "exit");
    },
  };
}

function burnOnMain(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end) Math.sqrt(end);
}

describe("the profiler", () => {
  it("takes a CPU profile of the main thread and of a thread without an event loop", async () => {
    const { worker, end } = busyThread();
    await once(worker, "online");
    const profiler = new Profiler(() => [worker]);
    const stop = new AbortController();
    const taking = profiler.cpu(300, 1000, stop.signal);
    assert.equal(await profiler.cpu(1, 100, stop.signal), undefined, "one at a time");
    await new Promise((done) => setTimeout(done, 100));
    burnOnMain(100);
    stop.abort();
    const profile = readProfile((await taking) ?? new Uint8Array());
    await end();
    assert.deepEqual(profile.sampleTypes, ["samples/count", "cpu/nanoseconds"]);
    assert.equal(profile.periodType, "cpu/nanoseconds");
    assert.equal(profile.period, 1_000_000);
    assert.ok(profile.durationNanos > 100e6);
    assert.ok(total(profile, "main", "burnOnMain") > 20e6, "time on the main thread is there");
    assert.ok(total(profile, "data-0", "burnInThread") > 5e6, "time on the data thread is there");
  });

  it("follows allocations on every thread while it is switched on", async () => {
    const { worker, end } = busyThread();
    const profiler = new Profiler(() => [worker]);
    await once(worker, "online");
    assert.equal(await profiler.stopHeap(), undefined);
    await profiler.startHeap();
    assert.equal(profiler.heapActive, true);
    const kept = Array.from({ length: 100 }, keepOnMain);
    await new Promise((done) => setTimeout(done, 200));
    const profile = readProfile((await profiler.stopHeap()) ?? new Uint8Array());
    await end();
    assert.equal(profiler.heapActive, false);
    assert.equal(kept.length, 100);
    assert.deepEqual(profile.sampleTypes, ["inuse_objects/count", "inuse_space/bytes"]);
    assert.ok(total(profile, "main", "keepOnMain") > 1e6);
    assert.ok(total(profile, "data-0", "keepInThread") > 1e5);
  });

  it("starts on no thread when it cannot on one of them", async () => {
    const refusing = {
      threadName: "data-0",
      startCpuProfile: () => Promise.reject(new Error("no")),
      startHeapProfile: () => Promise.reject(new Error("no")),
    };
    const profiler = new Profiler(() => [refusing]);
    const { signal } = new AbortController();
    await assert.rejects(profiler.cpu(1, 100, signal), /no/);
    await assert.rejects(profiler.cpu(1, 100, signal), /no/, "it is not busy afterwards");
  });
});

function keepOnMain(): number[] {
  return Array.from({ length: 20_000 }, (_, i) => i);
}

/** The second value of all samples of a thread whose stack holds a function. */
function total(profile: ReturnType<typeof readProfile>, thread: string, name: string): number {
  return profile.samples
    .filter((sample) => sample.labels["thread"] === thread && sample.stack.includes(name) && sample.stack[0] === thread)
    .reduce((sum, sample) => sum + (sample.values[1] ?? 0), 0);
}
