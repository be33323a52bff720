import assert from "node:assert/strict";
import { test } from "node:test";
import { Abuse, type AbuseKind, FloodGuard } from "./flood-guard.ts";

/** How many tokens can be taken at once. */
function available(guard: FloodGuard, kind: AbuseKind): number {
  for (let taken = 0; taken < 100_000; taken++) if (guard.take(kind) !== undefined) return taken;
  return Number.POSITIVE_INFINITY;
}

test("resets before an answer: a burst, then a rate, and one for every stream that was answered", () => {
  let now = 0;
  const guard = new FloodGuard(() => now);
  assert.equal(available(guard, Abuse.RESET), 1000);
  now += 10_000;
  assert.equal(available(guard, Abuse.RESET), 330);
  for (let i = 0; i < 100; i++) guard.answered();
  assert.equal(available(guard, Abuse.RESET), 100);
});

test("an idle connection saves up no more than its burst", () => {
  let now = 0;
  const guard = new FloodGuard(() => now);
  available(guard, Abuse.PING);
  now += 1e9;
  assert.equal(available(guard, Abuse.PING), 200);
});

test("window updates are earned by the bytes that were sent", () => {
  const guard = new FloodGuard(() => 0);
  assert.equal(available(guard, Abuse.WINDOW), 2000);
  guard.sent(256_000);
  assert.equal(available(guard, Abuse.WINDOW), 1004);
});

test("a kind that is used up leaves the others alone", () => {
  const guard = new FloodGuard(() => 0);
  available(guard, Abuse.SETTINGS);
  assert.equal(guard.take(Abuse.PING), undefined);
});
