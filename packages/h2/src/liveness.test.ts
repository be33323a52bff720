import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualTimers } from "../test/manual-timers.ts";
import { Liveness } from "./liveness.ts";

function start(timers: ManualTimers) {
  const seen = { pings: 0, dead: 0 };
  const liveness = new Liveness(
    timers,
    { intervalMs: 10_000, timeoutMs: 9_900 },
    () => void seen.pings++,
    () => void seen.dead++,
  );
  return { seen, liveness };
}

test("a silent peer is dead within 20 s, even if it fell silent right after an answer", () => {
  const timers = new ManualTimers();
  const { seen, liveness } = start(timers);
  timers.advance(10_000);
  liveness.received();
  timers.advance(19_999);
  assert.deepEqual(seen, { pings: 2, dead: 1 });
  assert.equal(timers.pending, 0);
});

test("any bytes count as an answer", () => {
  const timers = new ManualTimers();
  const { seen, liveness } = start(timers);
  for (let i = 0; i < 60; i++) {
    timers.advance(1000);
    liveness.received();
  }
  assert.deepEqual(seen, { pings: 6, dead: 0 });
});

test("stop leaves no timer", () => {
  const timers = new ManualTimers();
  start(timers).liveness.stop();
  assert.equal(timers.pending, 0);
});
