import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { readProfile } from "@tulle/testkit";
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
    const taking = profiler.cpu(1, 1000, stop.signal);
    assert.equal(await profiler.cpu(1, 100, stop.signal), undefined, "one at a time");
    // A busy machine takes its time to start: there is work for as long as the profile is taken.
    const work = { over: false };
    const profiled = taking.finally(() => {
      work.over = true;
    });
    while (!work.over) {
      burnOnMain(20);
      await turn();
    }
    const profile = readProfile((await profiled) ?? new Uint8Array());
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

  it("leaves out the time in which a data thread waits for events", async () => {
    const profile = {
      nodes: [
        { id: 1, callFrame: at("(root)", ""), children: [2, 4, 5] },
        { id: 2, callFrame: at("turn", "file:///x/packages/reactor/src/epoll-reactor.ts"), children: [3] },
        { id: 3, callFrame: at("wait", "file:///x/packages/linux/src/epoll.ts") },
        { id: 4, callFrame: at("(idle)", "") },
        { id: 5, callFrame: at("wait", "file:///x/elsewhere.ts") },
      ],
      samples: [2, 3, 3, 4, 5],
      timeDeltas: [1, 10, 100, 1000, -5],
    };
    const handle = {
      stop: () => Promise.resolve(JSON.stringify(profile)),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
    const thread = {
      threadName: null,
      startCpuProfile: () => Promise.resolve(handle),
      startHeapProfile: () => Promise.resolve(handle),
    };
    const taken = await new Profiler(() => [thread]).cpu(0, 100, new AbortController().signal);
    const samples = readProfile(taken ?? new Uint8Array()).samples.filter(
      ({ labels }) => labels["thread"] === "data-0",
    );
    assert.deepEqual(
      samples.map(({ stack, values }) => [stack, values]),
      [
        [
          ["data-0", "turn"],
          [1, 1000],
        ],
        [
          ["data-0", "wait"],
          [1, 0],
        ],
      ],
    );
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

function at(functionName: string, url: string) {
  return { functionName, url, lineNumber: 1 };
}

function keepOnMain(): number[] {
  return Array.from({ length: 20_000 }, (_, i) => i);
}

/** The second value of all samples of a thread whose stack holds a function. */
function total(profile: ReturnType<typeof readProfile>, thread: string, name: string): number {
  return profile.samples
    .filter((sample) => sample.labels["thread"] === thread && sample.stack.includes(name) && sample.stack[0] === thread)
    .reduce((sum, sample) => sum + (sample.values[1] ?? 0), 0);
}
