import assert from "node:assert/strict";
import { test } from "node:test";
import type { Event } from "../objects/builtin.ts";
import { expiredEvents } from "./event-expiry.ts";

const NOW = Date.parse("2026-01-01T12:00:00Z");
const event = (name: string, ageMs: number): Event => ({
  apiVersion: "v1",
  kind: "Event",
  metadata: { namespace: "default", name },
  involvedObject: {},
  lastTimestamp: new Date(NOW - ageMs).toISOString(),
});

test("Events go after an hour, and the oldest of too many go before", () => {
  const hour = 3_600_000;
  const names = (events: readonly Event[]) => expiredEvents(events, NOW).map(({ metadata }) => metadata.name);
  assert.deepEqual(names([event("old", hour + 1), event("young", hour - 1)]), ["old"]);
  const many = Array.from({ length: 1002 }, (_, index) => event(String(index), index));
  assert.deepEqual(names(many), ["1000", "1001"]);
});
