import assert from "node:assert/strict";
import type { Timer } from "@tulle/reactor";
import { type ComplianceWorld, register, settle, until } from "./harness.ts";

export function testTime(name: string, create: () => ComplianceWorld): void {
  register(name, create, {
    "timers fire in the order of their times, each once, and never early"(world) {
      const { client } = world;
      const fired: number[] = [];
      for (const delay of [90, 0, 45, 1, 150, 20]) {
        const start = client.now();
        client.after(delay, () => {
          fired.push(delay);
          assert.ok(client.now() - start >= delay, `${delay} ms were over after ${client.now() - start}`);
        });
      }
      assert.equal(client.open.timers, 6);
      until(world, "all have fired", () => fired.length === 6);
      // 0 and 1 ms may share a tick.
      assert.deepEqual(new Set(fired.slice(0, 2)), new Set([0, 1]));
      assert.deepEqual(fired.slice(2), [20, 45, 90, 150]);
      assert.equal(client.open.timers, 0);
      assert.equal(client.faults, 0);
    },

    "a timer that is cancelled does not fire, also when another timer cancels it"(world) {
      const { client } = world;
      const fired: string[] = [];
      const first = client.after(10, () => fired.push("first"));
      first.cancel();
      first.cancel();
      let a: Timer | undefined;
      let b: Timer | undefined;
      a = client.after(20, () => {
        fired.push("one of two");
        b?.cancel();
      });
      b = client.after(20, () => {
        fired.push("one of two");
        a?.cancel();
      });
      client.after(60, () => fired.push("last"));
      until(world, "the last has fired", () => fired.includes("last"));
      assert.deepEqual(fired, ["one of two", "last"]);
      assert.equal(client.open.timers, 0);
    },

    "cancelling a timer that has fired does nothing"(world) {
      const { client } = world;
      let fired = 0;
      const timer = client.after(1, () => fired++);
      client.after(500, () => {});
      until(world, "it has fired", () => fired === 1);
      timer.cancel();
      assert.equal(client.open.timers, 1);
    },

    "a timer may set the next one, and time goes on between them"(world) {
      const { client } = world;
      const times: number[] = [];
      const again = () => {
        times.push(client.now());
        if (times.length < 4) client.after(20, again);
      };
      client.after(20, again);
      until(world, "four have fired", () => times.length === 4);
      for (let i = 1; i < 4; i++) assert.ok((times[i] as number) - (times[i - 1] as number) >= 20);
    },

    "ten thousand timers cost what they should: set, cancelled and fired"(world) {
      const { client } = world;
      let fired = 0;
      const timers = Array.from({ length: 10_000 }, (_, i) => client.after(i % 100, () => fired++));
      timers.forEach((timer, i) => {
        if (i % 2 === 0) timer.cancel();
      });
      assert.equal(client.open.timers, 5000);
      until(world, "the others have fired", () => fired === 5000);
    },

    "a task runs once in a turn, however often it was asked for"(world) {
      const { client } = world;
      let runs = 0;
      const task = { deferred: false, run: () => void runs++ };
      for (let i = 0; i < 3; i++) client.defer(task);
      assert.equal(runs, 0, "not within defer");
      client.turn(0);
      assert.equal(runs, 1);
      client.turn(0);
      assert.equal(runs, 1);
      client.defer(task);
      client.turn(0);
      assert.equal(runs, 2);
    },

    "a task that asks for itself runs once in each turn"(world) {
      const { client } = world;
      let runs = 0;
      const task = {
        deferred: false,
        run() {
          runs++;
          if (runs < 1000) client.defer(task);
        },
      };
      client.defer(task);
      for (let turn = 1; turn <= 5; turn++) {
        client.turn(0);
        assert.equal(runs, turn);
      }
    },

    "tasks run in the order they were asked for, after the events and timers of the turn"(world) {
      const { client } = world;
      const order: string[] = [];
      client.after(5, () => {
        client.defer({ deferred: false, run: () => void order.push("first task") });
        client.defer({ deferred: false, run: () => void order.push("second task") });
        order.push("timer");
      });
      until(world, "all have run", () => order.length === 3);
      assert.deepEqual(order, ["timer", "first task", "second task"]);
    },

    "a wake-up from another thread is heard, each time"(world) {
      const { client } = world;
      let woken = 0;
      client.onWake(() => woken++);
      settle(world, 5);
      assert.equal(woken, 0);
      for (let i = 1; i <= 3; i++) {
        world.wake(client);
        until(world, "it is woken", () => woken === i);
      }
      settle(world, 20);
      assert.equal(woken, 3);
    },

    "random numbers lie between 0 and 1"({ client }) {
      for (let i = 0; i < 100; i++) {
        const value = client.random();
        assert.ok(value >= 0 && value < 1);
      }
    },
  });
}
