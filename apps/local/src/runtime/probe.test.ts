import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Probe } from "../resources/kinds.ts";
import { watchProbe } from "./probe.ts";

const DOWN = "it is down";

/** What a probe concludes from answers that come one a period; "up" and the reasons for "down", in order. */
async function verdicts(probe: Probe, answers: readonly boolean[]): Promise<string[]> {
  const seen: string[] = [];
  const end = new AbortController();
  let asked = 0;
  const done = watchProbe(
    probe,
    () => {
      const up = answers[asked++];
      if (up === undefined) end.abort();
      return Promise.resolve(up === false ? DOWN : undefined);
    },
    (ready, reason) => seen.push(ready ? "up" : reason),
    end.signal,
  );
  return done.then(() => seen);
}

const cases: readonly (readonly [
  what: string,
  probe: Probe,
  answers: readonly boolean[],
  expected: readonly string[],
])[] = [
  ["one success makes it ready", { periodSeconds: 1 }, [true, true], ["up"]],
  ["it stays unready, with the reason, until the first success", { periodSeconds: 1 }, [false, true], [DOWN, "up"]],
  [
    "as many successes as asked for",
    { periodSeconds: 1, successThreshold: 2 },
    [true, false, true, true],
    [DOWN, "up"],
  ],
  [
    "three failures in a row make it unready",
    { periodSeconds: 1 },
    [true, false, false, true, false, false, false],
    ["up", DOWN],
  ],
  ["or one, if so told", { periodSeconds: 1, failureThreshold: 1 }, [true, false, true], ["up", DOWN, "up"]],
];

for (const [what, probe, answers, expected] of cases) {
  test(what, async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const result = verdicts({ ...probe, tcpSocket: { port: 1 } }, answers);
    // Each turn is a second: more of them than any case has answers.
    for (let turns = 0; turns < 30; turns++) {
      t.mock.timers.tick(1000);
      await turn();
    }
    assert.deepEqual(await result, expected);
  });
}
