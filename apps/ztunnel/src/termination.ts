/**
 * How long existing connections may go on once the process was asked to end (spec: l4-ztunnel §2.11).
 * CONNECTION_TERMINATION_DEADLINE wins; else it follows from the pod's grace period, with some seconds left to clean up.
 */

const DEFAULT_DEADLINE_MS = 5000;
/** Above this the grace period leaves room for a margin of five seconds. */
const LONG_GRACE_S = 10;
const LONG_MARGIN_S = 5;
const SHORT_MARGIN_S = 1;
const MINIMUM_S = 1;

export function terminationDeadlineMs(explicitMs: number | undefined, graceSeconds: number | undefined): number {
  if (explicitMs !== undefined) return explicitMs;
  if (graceSeconds === undefined) return DEFAULT_DEADLINE_MS;
  const margin = graceSeconds > LONG_GRACE_S ? LONG_MARGIN_S : SHORT_MARGIN_S;
  return Math.max(MINIMUM_S, graceSeconds - margin) * 1000;
}
