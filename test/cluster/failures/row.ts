import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import type { HeldConnection } from "../src/held-connection.ts";
import type { Load, LoadFailure } from "../src/load.ts";
import type { Scene } from "./scene.ts";
import { ASPECTS, type Aspect, EXPECTED, type Part } from "./table.ts";

/** One row of the table as tests: what `register` does not give a cell for is an error. */
export type Cell = (aspect: Aspect, body: (t: TestContext) => Promise<void>) => void;

/**
 * A row: `register` kills the part in a `before` hook, notes what is seen, and gives each cell its test. `scene` can be
 * used in hooks and tests only.
 */
export function row(part: Part, register: (cell: Cell) => void): void {
  describe(`${part} killed`, () => {
    const missing = new Set<Aspect>(ASPECTS);
    register((aspect, body) => {
      if (!missing.delete(aspect)) throw new Error(`${part} has two cells for ${aspect}`);
      test(`${aspect}: ${EXPECTED[part][aspect]}`, body);
    });
    if (missing.size > 0) throw new Error(`${part} has no cell for ${[...missing].join(", ")}`);
  });
}

/** Ended by somebody, and not because nobody answered any more. */
export function assertCut(held: HeldConnection): void {
  assert.equal(held.failure?.kind, "echo", JSON.stringify(held.failure));
}

/** Ends it; it worked to the last. */
export async function assertHeld(held: HeldConnection): Promise<void> {
  assert.equal(await held.stop(), undefined);
}

/** Ends it; every request was answered. */
export async function assertNoneFailed(load: Load, t?: TestContext): Promise<void> {
  const { sent, failed, skipped, p50Ms, maxMs } = await load.stop();
  t?.diagnostic(`${sent} requests, each on a new connection: median ${p50Ms} ms, longest ${maxMs} ms`);
  assert.deepEqual(load.failures.slice(0, 3).map(told), []);
  assert.equal(failed + skipped, 0);
  assert.ok(sent > 0);
}

/** Ends it; none was ever answered, and there were some. */
export async function assertNoneServed(load: Load): Promise<void> {
  const { ok, failed } = await load.stop();
  assert.equal(ok, 0, "requests were answered");
  assert.ok(failed > 0);
}

export function told({ connection, kind, error }: LoadFailure): string {
  return `${connection} ${kind}: ${error}`;
}

/** Runs what has to be undone, last first, whatever fails. */
export async function undo(steps: readonly (() => unknown)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const step of steps.toReversed()) {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw new AggregateError(failures, "what was made for the test could not be undone");
}

export type GetScene = () => Scene;
