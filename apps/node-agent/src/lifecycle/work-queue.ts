import { Backoff, type Log, messageOf, sleep } from "@tulle/base";

export interface WorkQueueOptions {
  /**
   * Brings one key forward; called for one key at a time. Returns after how many milliseconds to look again of its own
   * accord. When it rejects it is tried again, ever later.
   */
  readonly work: (key: string) => Promise<number | undefined>;
  readonly log: Log;
  /** Keys at a time. Default 16. */
  readonly concurrency?: number;
  /** Default 60 s. */
  readonly stuckMs?: number;
}

/** Rules are made by programs: more at a time would only make each slower. */
const CONCURRENCY = 16;
/** Spec: control-plane §7.4. */
const RETRY = { initialMs: 5, maxMs: 5000, jitter: 0.1 };
/** Every step inside has a shorter time-out; what takes longer is stuck and no longer counts against the others. */
const STUCK_MS = 60_000;
/** Callers that wait for one key's turn. */
const MAX_WAITING_PER_KEY = 4;

interface Lane {
  running: boolean;
  dirty: boolean;
  timer: NodeJS.Timeout | undefined;
  readonly backoff: Backoff;
  readonly waiting: (() => Promise<void>)[];
}

/** Work by key: each key's in order and alone, keys side by side, so that one that is stuck holds no other. */
export class WorkQueue {
  readonly #options: WorkQueueOptions;
  readonly #lanes = new Map<string, Lane>();
  readonly #ready: (() => void)[] = [];
  #busy = 0;
  #closed = false;

  constructor(options: WorkQueueOptions) {
    this.#options = options;
  }

  /** Keys with work that is under way or due. */
  get pending(): number {
    return this.#lanes.size;
  }

  /** Has the key looked at, soon or after `delayMs`. While it is being looked at: once more afterwards. */
  poke(key: string, delayMs = 0): void {
    if (this.#closed) return;
    const lane = this.#lane(key);
    if (delayMs > 0) {
      this.#later(key, lane, delayMs);
      return;
    }
    lane.dirty = true;
    void this.#run(key, lane);
  }

  /** Runs `action` when it is the key's turn. Rejects as it does, or at once when too many wait. */
  exclusive<T>(key: string, action: () => Promise<T>): Promise<T> {
    const lane = this.#lane(key);
    if (this.#closed || lane.waiting.length >= MAX_WAITING_PER_KEY) {
      return Promise.reject(new Error("the node agent is busy with this pod: try again"));
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    lane.waiting.push(() => action().then(resolve, reject));
    void this.#run(key, lane);
    return promise;
  }

  /** Starts nothing more; what is under way is waited for, at most `timeoutMs`. */
  async close(timeoutMs: number): Promise<void> {
    this.#closed = true;
    for (const { timer } of this.#lanes.values()) clearTimeout(timer);
    const deadline = performance.now() + timeoutMs;
    while ([...this.#lanes.values()].some(({ running }) => running) && performance.now() < deadline) await sleep(10);
  }

  #lane(key: string): Lane {
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = { running: false, dirty: false, timer: undefined, backoff: new Backoff(RETRY), waiting: [] };
      this.#lanes.set(key, lane);
    }
    return lane;
  }

  async #run(key: string, lane: Lane): Promise<void> {
    if (lane.running) return;
    lane.running = true;
    while (!this.#closed) {
      const next = lane.waiting.shift();
      if (next === undefined && !lane.dirty) break;
      const release = await this.#slot(key);
      try {
        if (next !== undefined) await next();
        else await this.#once(key, lane);
      } finally {
        release();
      }
    }
    lane.running = false;
    if (lane.timer === undefined && lane.waiting.length === 0 && !lane.dirty) this.#lanes.delete(key);
  }

  async #once(key: string, lane: Lane): Promise<void> {
    lane.dirty = false;
    clearTimeout(lane.timer);
    lane.timer = undefined;
    let again: number | undefined;
    try {
      again = await this.#options.work(key);
      lane.backoff.reset();
    } catch (error) {
      again = lane.backoff.next();
      this.#options.log.warn("trying again", { key, after: `${Math.round(again)}ms`, error: messageOf(error) });
    }
    if (again !== undefined) this.#later(key, lane, again);
  }

  /** One that is due earlier, whatever for, does as well: it finds out what to do next. */
  #later(key: string, lane: Lane, delayMs: number): void {
    if (lane.dirty || lane.timer !== undefined || this.#closed) return;
    lane.timer = setTimeout(() => {
      lane.timer = undefined;
      this.poke(key);
    }, delayMs);
  }

  /** A place among those that work; given back when the work ends, or when it takes so long that it must be stuck. */
  async #slot(key: string): Promise<() => void> {
    const { concurrency = CONCURRENCY, stuckMs = STUCK_MS, log } = this.#options;
    while (this.#busy >= concurrency) await new Promise<void>((resolve) => this.#ready.push(resolve));
    this.#busy++;
    let held = true;
    const release = () => {
      if (!held) return;
      held = false;
      clearTimeout(timer);
      this.#busy--;
      this.#ready.shift()?.();
    };
    const timer = setTimeout(() => {
      log.error("stuck: others go on without it", { key, after: `${stuckMs}ms` });
      release();
    }, stuckMs);
    return release;
  }
}
