import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "@tulle/base";
import type { Timer } from "./contract.ts";
import { MAX_TIMERS, TICK_MS, TimerWheel } from "./timer-wheel.ts";

const HOUR_MS = 3_600_000;
const run = (callback: () => void) => callback();

/** Goes from one due time to the next, as the reactor does, until `end`. */
function advanceTo(wheel: TimerWheel, from: number, end: number, onStep: (now: number) => void): void {
  let now = from;
  while (now < end) {
    now = Math.min(end, now + Math.max(wheel.delay(now), 0.001));
    onStep(now);
    wheel.advance(now, run);
  }
}

for (const delay of [0, 1, 7, 8, 9, 511, 512, 513, 32_767, 32_768, 40_000, 2_097_152, 30 * HOUR_MS, 200 * HOUR_MS]) {
  for (const start of [0, 3, 12_345.678]) {
    test(`a timer of ${delay} ms set at ${start} is not early and at most a tick late`, () => {
      const wheel = new TimerWheel(start);
      let now = start;
      let fired = -1;
      wheel.add(start, delay, () => {
        fired = now;
      });
      advanceTo(wheel, start, start + delay + 100, (at) => {
        now = at;
      });
      assert.ok(fired >= start + delay, `fired at ${fired}`);
      assert.ok(fired <= start + delay + 2 * TICK_MS, `fired at ${fired}`);
      assert.equal(wheel.size, 0);
    });
  }
}

test("thousands of timers, set and cancelled at random, fire as a plain list of times says", () => {
  const random = seededRandom(7);
  const wheel = new TimerWheel(0);
  const due = new Map<number, number>();
  const timers = new Map<number, Timer>();
  let now = 0;
  let fired = 0;
  for (let id = 0; id < 5000; id++) {
    const delay = random() < 0.8 ? random() * 2000 : random() * 200_000;
    due.set(id, now + delay);
    timers.set(
      id,
      wheel.add(now, delay, () => {
        const time = due.get(id);
        assert.ok(time !== undefined, "it was cancelled or has fired already");
        assert.ok(now >= time && now <= time + 2 * TICK_MS, `due ${time}, fired ${now}`);
        due.delete(id);
        fired++;
      }),
    );
    if (random() < 0.3) {
      const victim = Math.floor(random() * (id + 1));
      if (due.delete(victim)) timers.get(victim)?.cancel();
    }
    assert.equal(wheel.size, due.size);
    const step = random() * 20;
    advanceTo(wheel, now, now + step, (at) => {
      now = at;
    });
  }
  advanceTo(wheel, now, now + 250_000, (at) => {
    now = at;
  });
  assert.equal(due.size, 0);
  assert.ok(fired > 3000);
});

test("time that jumps fires everything that is due, in one go", () => {
  const wheel = new TimerWheel(0);
  const fired: number[] = [];
  for (const delay of [HOUR_MS, 5, 700, 40_000, 100 * HOUR_MS]) wheel.add(0, delay, () => fired.push(delay));
  assert.equal(wheel.advance(2 * HOUR_MS, run), 4);
  assert.deepEqual(fired, [5, 700, 40_000, HOUR_MS]);
  assert.equal(wheel.size, 1);
});

test("delay says when to come again: never later than the first timer, Infinity without one", () => {
  const wheel = new TimerWheel(100);
  assert.equal(wheel.delay(100), Number.POSITIVE_INFINITY);
  const far = wheel.add(100, 10_000, () => {});
  wheel.add(100, 50, () => {});
  assert.ok(wheel.delay(100) >= 50 && wheel.delay(100) <= 50 + TICK_MS);
  assert.equal(wheel.delay(10_000), 0);
  wheel.advance(200, run);
  assert.ok(wheel.delay(200) <= 9900 + TICK_MS);
  far.cancel();
  assert.equal(wheel.delay(200), Number.POSITIVE_INFINITY);
});

test("a timer that sets itself again with no delay cannot hold up the wheel", () => {
  const wheel = new TimerWheel(0);
  let fired = 0;
  const again = () => {
    fired++;
    wheel.add(1000, 0, again);
  };
  wheel.add(0, 0, again);
  wheel.advance(1000, run);
  assert.ok(fired <= 2);
  assert.equal(wheel.size, 1);
});

test("clear cancels everything, also from within a callback", () => {
  const wheel = new TimerWheel(0);
  let fired = 0;
  for (let i = 0; i < 10; i++) {
    wheel.add(0, 10, () => {
      fired++;
      wheel.clear();
    });
  }
  wheel.add(0, 10_000, () => fired++);
  wheel.advance(20_000, run);
  assert.equal(fired, 1);
  assert.equal(wheel.size, 0);
});

test("a delay that is no number is refused, a negative one is none", () => {
  const wheel = new TimerWheel(0);
  assert.throws(() => wheel.add(0, Number.NaN, () => {}), RangeError);
  let fired = 0;
  wheel.add(0, -5, () => fired++);
  wheel.advance(TICK_MS, run);
  assert.equal(fired, 1);
});

test("there is a limit, and beyond it an error with a code", () => {
  const wheel = new TimerWheel(0);
  const nothing = () => {};
  for (let i = 0; i < MAX_TIMERS; i++) wheel.add(0, i % 100_000, nothing);
  assert.throws(() => wheel.add(0, 1, nothing), { code: "TOO_MANY_TIMERS" });
  wheel.clear();
  wheel.add(0, 1, nothing);
  assert.equal(wheel.size, 1);
});
