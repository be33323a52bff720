import type { Event } from "../objects/builtin.ts";

/** As long as a cluster keeps Events. */
const EVENT_LIFE_MS = 60 * 60_000;
/** More are not kept: the oldest go. */
const MAX_EVENTS = 1_000;

/** The Events that have had their time. `wall`: Unix milliseconds. */
export function expiredEvents(events: readonly Event[], wall: number): readonly Event[] {
  const byAge = events.toSorted((a, b) => timeOf(b) - timeOf(a));
  return byAge.filter((event, index) => index >= MAX_EVENTS || timeOf(event) < wall - EVENT_LIFE_MS);
}

function timeOf(event: Event): number {
  return Date.parse(event.lastTimestamp ?? event.metadata.creationTimestamp ?? "") || 0;
}
