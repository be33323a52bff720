import { type Query, RCODE_OK, type ResponseSummary, reissue } from "./message.ts";

/** Responses that are kept per pod (spec: l4-ztunnel §8); the oldest goes first. */
export const CACHE_ENTRIES = 8192;
/** An upper bound for what an upstream may ask to be kept: one day, in seconds. */
const MAX_TTL_SECONDS = 86_400;
const RCODE_NAME_ERROR = 3;

interface Entry {
  readonly response: Uint8Array;
  readonly ttlOffsets: readonly number[];
  readonly storedAt: number;
  readonly expiresAt: number;
}

/** Upstream responses, kept for as long as their shortest TTL says. */
export class ResponseCache {
  readonly #entries = new Map<string, Entry>();
  readonly #now: () => number;

  /** `now`: monotonic milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** A response for this client, or undefined. */
  get(query: Query): Uint8Array | undefined {
    const key = keyOf(query);
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    const now = this.#now();
    if (entry.expiresAt <= now) {
      this.#entries.delete(key);
      return undefined;
    }
    return reissue(entry.response, query, entry.ttlOffsets, Math.floor((now - entry.storedAt) / 1000));
  }

  /** Keeps a response if it may be kept: complete, an answer or a definite no, with a TTL. */
  put(query: Query, response: Uint8Array, summary: ResponseSummary): void {
    if (summary.truncated || summary.ttlSeconds === undefined || summary.ttlSeconds === 0) return;
    if (summary.code !== RCODE_OK && summary.code !== RCODE_NAME_ERROR) return;
    const now = this.#now();
    const key = keyOf(query);
    this.#entries.delete(key);
    const oldest = this.#entries.size >= CACHE_ENTRIES ? this.#entries.keys().next().value : undefined;
    if (oldest !== undefined) this.#entries.delete(oldest);
    this.#entries.set(key, {
      response: Uint8Array.from(response),
      ttlOffsets: summary.ttlOffsets,
      storedAt: now,
      expiresAt: now + Math.min(summary.ttlSeconds, MAX_TTL_SECONDS) * 1000,
    });
  }

  get size(): number {
    return this.#entries.size;
  }
}

function keyOf(query: Query): string {
  const edns = query.edns === undefined ? "-" : `${query.edns.payload}${query.edns.dnssecOk ? "d" : ""}`;
  return `${query.type} ${query.class} ${edns} ${query.name}`;
}
