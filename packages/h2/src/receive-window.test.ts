import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ConnectionWindow, ReceiveWindow, WindowPlan } from "./receive-window.ts";

const MIB = 1_048_576;

test("initial windows are so small that all streams together fit into the connection's", () => {
  for (const maxStreams of [1, 100, 200, 500, 1000, 5000]) {
    const plan = new WindowPlan({
      connectionWindow: 16 * MIB,
      initialWindow: 65_536,
      maxStreamWindow: 4 * MIB,
      maxStreams,
    });
    assert.ok(plan.initialWindow * maxStreams <= 16 * MIB, `${maxStreams} streams`);
    assert.ok(plan.initialWindow <= 65_536);
  }
});

test("a fast stream's window grows up to its maximum, and shrinks when its consumer stalls", () => {
  const plan = new WindowPlan({
    connectionWindow: 16 * MIB,
    initialWindow: 65_536,
    maxStreamWindow: MIB,
    maxStreams: 100,
  });
  const before = plan.spare;
  const window = new ReceiveWindow(plan, plan.initialWindow, 0);
  let now = 0;
  for (let i = 0; i < 100; i++) {
    window.available -= 32_768;
    window.consume(32_768, 0, now++);
  }
  assert.equal(window.size, MIB);
  assert.equal(plan.spare, before - MIB + 65_536);
  for (let i = 0; i < 100; i++) {
    window.available -= 32_768;
    window.consume(32_768, 1, now++);
  }
  assert.equal(window.size, 65_536);
  assert.equal(plan.spare, before);
});

test("a slow stream keeps the initial window", () => {
  const plan = new WindowPlan({
    connectionWindow: 16 * MIB,
    initialWindow: 65_536,
    maxStreamWindow: MIB,
    maxStreams: 100,
  });
  const window = new ReceiveWindow(plan, plan.initialWindow, 0);
  for (let now = 100; now < 10_000; now += 100) window.consume(32_768, 0, now);
  assert.equal(window.size, 65_536);
});

test("what may be outstanding never exceeds the connection's window, whatever streams do", () => {
  const action = fc.record({
    stream: fc.nat(7),
    bytes: fc.integer({ min: 1, max: 65_536 }),
    queued: fc.boolean(),
    ms: fc.nat(60),
  });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 300 }), (actions) => {
      const plan = new WindowPlan({
        connectionWindow: MIB,
        initialWindow: 65_536,
        maxStreamWindow: MIB,
        maxStreams: 8,
      });
      const windows = Array.from({ length: 8 }, () => new ReceiveWindow(plan, plan.initialWindow, 0));
      const held = windows.map(() => 0);
      let now = 0;
      for (const { stream, bytes, queued, ms } of actions) {
        const window = windows[stream]!;
        now += ms;
        const sent = Math.min(bytes, window.available);
        window.available -= sent;
        held[stream]! += sent;
        const consumed = Math.min(held[stream]!, bytes);
        held[stream]! -= consumed;
        window.consume(consumed, queued ? 1 : 0, now);
        const outstanding = windows.reduce((sum, w, i) => sum + w.available + held[i]!, 0);
        assert.ok(outstanding <= MIB, `${outstanding}`);
      }
      for (const window of windows) window.close();
      assert.equal(plan.spare, MIB - 8 * plan.initialWindow);
    }),
  );
});

test("the connection's window is opened at once and returned by quarters", () => {
  const window = new ConnectionWindow(16 * MIB);
  assert.equal(window.consume(0), 16 * MIB - 65_535);
  assert.equal(window.available, 16 * MIB);
  assert.equal(window.consume(4 * MIB - 1), 0);
  assert.equal(window.consume(1), 4 * MIB);
});
