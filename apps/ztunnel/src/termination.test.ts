import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { terminationDeadlineMs } from "./termination.ts";

describe("the termination deadline", () => {
  const cases: readonly [explicitMs: number | undefined, graceSeconds: number | undefined, deadlineMs: number][] = [
    [undefined, undefined, 5000],
    [undefined, 30, 25_000],
    [undefined, 11, 6000],
    [undefined, 10, 9000],
    [undefined, 2, 1000],
    [undefined, 1, 1000],
    [undefined, 0, 1000],
    [2500, 30, 2500],
    [0, undefined, 0],
  ];
  for (const [explicit, grace, deadline] of cases) {
    it(`is ${deadline} ms for a deadline of ${explicit} ms and a grace period of ${grace} s`, () => {
      assert.equal(terminationDeadlineMs(explicit, grace), deadline);
    });
  }
});
