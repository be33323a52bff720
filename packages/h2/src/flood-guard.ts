/**
 * What a peer may do too often. Each kind has a bucket of tokens; what costs us work without being useful takes one, time
 * and useful work give some back. A bucket that is empty ends the connection with ENHANCE_YOUR_CALM.
 */
export const Abuse = {
  /**
   * A stream that ended for the peer's sake before we had answered it: RST_STREAM before our response (CVE-2023-44487),
   * a stream error that the peer provoked (CVE-2025-8671), a refused stream. Every stream that we answer earns one token,
   * so a busy pod that opens and resets ten thousand tunnels costs nothing once they were accepted.
   */
  RESET: 0,
  /** PING, each of which must be answered. */
  PING: 1,
  /** SETTINGS, each of which must be answered and may touch every stream. */
  SETTINGS: 2,
  /** WINDOW_UPDATE; earned by the data that we send. */
  WINDOW: 3,
  /** Frames that carry nothing: empty DATA and header fragments, PRIORITY, unknown types, frames for closed streams. */
  EMPTY: 4,
} as const;

export type AbuseKind = (typeof Abuse)[keyof typeof Abuse];

interface Bucket {
  readonly name: string;
  readonly burst: number;
  readonly perSecond: number;
}

const BUCKETS: readonly Bucket[] = [
  { name: "streams reset before an answer", burst: 1000, perSecond: 33 },
  { name: "PING frames", burst: 200, perSecond: 20 },
  { name: "SETTINGS frames", burst: 50, perSecond: 2 },
  { name: "WINDOW_UPDATE frames", burst: 2000, perSecond: 200 },
  { name: "frames that carry nothing", burst: 1000, perSecond: 50 },
];

/** A receiver that returns credit in pieces as small as this is still honest. */
const BYTES_PER_WINDOW_TOKEN = 256;
/** One stream, however short, may return credit for itself and for the connection a few times. */
const WINDOW_TOKENS_PER_FRAME = 4;

export class FloodGuard {
  readonly #tokens = BUCKETS.map((bucket) => bucket.burst);
  readonly #now: () => number;
  #refilledAt: number;
  #answered = 0;
  #received = 0;
  #sentFrames = 0;
  #sentBytes = 0;

  constructor(now: () => number) {
    this.#now = now;
    this.#refilledAt = now();
  }

  /** Takes one token; the text says what there was too much of, undefined means that all is well. */
  take(kind: AbuseKind): string | undefined {
    if (this.#tokens[kind]! < 1) this.#refill();
    if (this.#tokens[kind]! < 1) return `too many ${BUCKETS[kind]!.name}`;
    this.#tokens[kind]!--;
    return undefined;
  }

  /** We have answered a stream. */
  answered(): void {
    this.#answered++;
  }

  /** A frame came that carried something: DATA with payload, a header section. */
  received(): void {
    this.#received++;
  }

  /** We have sent a DATA frame. */
  sent(bytes: number): void {
    this.#sentFrames++;
    this.#sentBytes += bytes;
  }

  #refill(): void {
    const now = this.#now();
    const seconds = Math.max(0, now - this.#refilledAt) / 1000;
    const window = this.#sentBytes / BYTES_PER_WINDOW_TOKEN + this.#sentFrames * WINDOW_TOKENS_PER_FRAME;
    const earned = [this.#answered, this.#received + this.#sentFrames, 0, window, this.#received];
    BUCKETS.forEach(({ burst, perSecond }, kind) => {
      this.#tokens[kind] = Math.min(burst, this.#tokens[kind]! + seconds * perSecond + earned[kind]!);
    });
    this.#refilledAt = now;
    this.#answered = this.#received = this.#sentFrames = this.#sentBytes = 0;
  }
}
