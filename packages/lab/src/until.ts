import { MeshError } from "@tulle/base";

export interface UntilOptions {
  /** What is waited for, for the error: "the proxy to listen". */
  readonly what: string;
  /** Default 30 s: long for a busy machine, and only spent when the test fails. */
  readonly timeoutMs?: number;
  /** Default 20 ms. */
  readonly intervalMs?: number;
}

const DEFAULT_TIMEOUT_MS = 30_000;
const DEFAULT_INTERVAL_MS = 20;

/**
 * Asks again and again until the answer is neither undefined, null nor false, and returns it. A throw counts as "not
 * yet". Throws MeshError WAITED_TOO_LONG (its cause: what was thrown last).
 */
export async function until<T>(
  ask: () => T | Promise<T>,
  options: UntilOptions,
): Promise<Exclude<Awaited<T>, undefined | null | false>> {
  const { what, timeoutMs = DEFAULT_TIMEOUT_MS, intervalMs = DEFAULT_INTERVAL_MS } = options;
  const deadline = performance.now() + timeoutMs;
  let failure: unknown;
  for (;;) {
    try {
      const answer = await ask();
      failure = undefined;
      if (answer !== undefined && answer !== null && answer !== false) {
        return answer as Exclude<Awaited<T>, undefined | null | false>;
      }
    } catch (error) {
      failure = error;
    }
    if (performance.now() >= deadline) {
      const because = failure instanceof Error ? `: ${failure.message}` : "";
      throw new MeshError(`waited ${timeoutMs} ms for ${what}${because}`, {
        code: "WAITED_TOO_LONG",
        side: "internal",
        cause: failure,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  }
}
