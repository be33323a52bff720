import { Backoff, type Clock, type Log, messageOf, type Random, sleep as realSleep } from "@tulle/base";
import type { MeshObjectKind, ObjectStatus } from "@tulle/mesh/convert";
import { type KubeObject, type ObjectRef, type Store, StoreError } from "@tulle/store";
import { statusKindOf, statusPatch } from "./conditions.ts";
import { RecentWrites } from "./recent-writes.ts";
import { TokenBucket } from "./token-bucket.ts";

export interface StatusWriterOptions {
  readonly store: Pick<Store, "apply">;
  /** The object as the control plane's watch has it; undefined when it is gone. */
  readonly lookup: (kind: MeshObjectKind, ref: ObjectRef) => KubeObject | undefined;
  readonly log: Log;
  readonly clock: Clock;
  readonly random?: Random;
  readonly sleep?: typeof realSleep;
  /** Default 100_000: objects whose conditions wait to be written; of further ones nothing is written. */
  readonly maxPending?: number;
  /** Default 100, and as many at once. */
  readonly writesPerSecond?: number;
}

export interface StatusWriterCounts {
  /** Of objects that wait or are being written. */
  readonly pending: number;
  readonly written: number;
  /** The object says it already, or is gone. */
  readonly skipped: number;
  /** Given up after `MAX_ATTEMPTS`, or refused by the API. */
  readonly failed: number;
  /** Came when there was no more room. */
  readonly dropped: number;
}

/** Enough for every object of a large mesh at the start. */
const MAX_PENDING = 100_000;
/** What an API server takes besides its other work. */
const WRITES_PER_SECOND = 100;
/** Writes under way at a time. */
const MAX_WRITES = 8;
/** The API's answer was that it cannot be so: conflicts, mostly. Waiting for the API does not count. */
const MAX_ATTEMPTS = 5;
/** Statuses that are looked at before others get a turn: after a restart nearly all are said already. */
const MAX_LOOKS = 500;
const RETRY = { initialMs: 50, maxMs: 2_000, jitter: 0.2 };
/** The API does not answer: nothing is written meanwhile, and nothing is lost. */
const OUTAGE = { initialMs: 250, maxMs: 15_000, jitter: 0.2 };
/** What a user has just applied is said first: the rest may be thousands of objects after a restart. */
const FIRST: ReadonlySet<MeshObjectKind> = new Set<MeshObjectKind>(["AuthorizationPolicy", "PeerAuthentication"]);

interface Pending {
  readonly status: ObjectStatus;
  readonly attempts: number;
  readonly retry: Backoff;
  /** Not before. On the clock. */
  readonly due: number;
}

/**
 * Writes what became of objects into their status (control-plane.md §2.9). Of several changes to one object the newest
 * is written; what the object says already is not written again. Never throws, never blocks.
 */
export class StatusWriter implements AsyncDisposable {
  readonly #options: StatusWriterOptions;
  readonly #sleep: typeof realSleep;
  readonly #maxPending: number;
  readonly #bucket: TokenBucket;
  readonly #recent: RecentWrites;
  readonly #outage: Backoff;
  /** By object and manager; urgent ones apart. */
  readonly #queues: readonly [urgent: Map<string, Pending>, others: Map<string, Pending>] = [new Map(), new Map()];
  /** Objects that are being written. Conditions of two managers may be one field of the object. */
  readonly #busy = new Set<string>();
  /** Kinds and error codes that were told: as many as there are of them. */
  readonly #told = new Set<string>();
  readonly #stop = new AbortController();
  readonly #counts = { written: 0, skipped: 0, failed: 0, dropped: 0 };
  #wake: (() => void) | undefined;
  #outageUntil = 0;
  #running: Promise<void>;

  constructor(options: StatusWriterOptions) {
    const { clock, random = Math.random, writesPerSecond = WRITES_PER_SECOND } = options;
    this.#options = options;
    this.#sleep = options.sleep ?? realSleep;
    this.#maxPending = options.maxPending ?? MAX_PENDING;
    this.#bucket = new TokenBucket({ clock, perSecond: writesPerSecond, burst: writesPerSecond });
    this.#recent = new RecentWrites(clock);
    this.#outage = new Backoff({ ...OUTAGE, random });
    this.#running = this.#run();
  }

  /** As `Discovery` tells them. */
  write(statuses: Iterable<ObjectStatus>): void {
    for (const status of statuses) this.#enqueue(status);
    this.#wake?.();
  }

  get counts(): StatusWriterCounts {
    return { ...this.#counts, pending: this.#queues[0].size + this.#queues[1].size + this.#busy.size };
  }

  /** What waits is not written any more; what is under way ends. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#running;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #enqueue(status: ObjectStatus): void {
    if (this.#stop.signal.aborted || statusKindOf(status.kind) === undefined) return;
    const [urgent, others] = this.#queues;
    const queue = FIRST.has(status.kind) ? urgent : others;
    const id = `${objectId(status)} ${status.manager}`;
    if (!queue.has(id) && urgent.size + others.size >= this.#maxPending) {
      this.#counts.dropped += 1;
      if (this.#counts.dropped === 1) {
        const max = this.#maxPending;
        this.#options.log.warn("too many statuses wait to be written: further ones are left out", { max });
      }
      return;
    }
    const { clock, random = Math.random } = this.#options;
    queue.set(id, { status, attempts: 0, retry: new Backoff({ ...RETRY, random }), due: clock.now() });
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const writes = new Set<Promise<void>>();
    while (!signal.aborted) {
      const wait = this.#startDue(writes);
      const woken = Promise.withResolvers<void>();
      this.#wake = woken.resolve;
      // Ends the sleep, too, so that no timer is left behind.
      const awake = new AbortController();
      const slept = wait === undefined ? [] : [this.#sleep(wait, awake.signal)];
      await Promise.race([woken.promise, ...slept, ...writes]);
      awake.abort();
    }
    await Promise.all(writes);
  }

  /** Starts what may be written now; returns how long until more may be. Undefined: until something happens. */
  #startDue(writes: Set<Promise<void>>): number | undefined {
    const now = this.#options.clock.now();
    if (now < this.#outageUntil) return this.#outageUntil - now;
    let soonest: number | undefined;
    let looks = 0;
    for (const queue of this.#queues) {
      for (const [id, pending] of queue) {
        if (writes.size >= MAX_WRITES) return undefined;
        if (looks++ >= MAX_LOOKS) return 0;
        const object = objectId(pending.status);
        if (this.#busy.has(object)) continue;
        if (pending.due > now) {
          soonest = Math.min(soonest ?? Infinity, pending.due - now);
          continue;
        }
        const patch = this.#patchFor(pending.status);
        if (patch === undefined) {
          queue.delete(id);
          this.#counts.skipped += 1;
          continue;
        }
        const wait = this.#bucket.take();
        if (wait > 0) return wait;
        queue.delete(id);
        this.#busy.add(object);
        const write = this.#write(id, queue, pending, patch).finally(() => {
          this.#busy.delete(object);
          writes.delete(write);
        });
        writes.add(write);
      }
    }
    return soonest;
  }

  /** Undefined: nothing needs to be written. */
  #patchFor(status: ObjectStatus): KubeObject | undefined {
    const { lookup, clock } = this.#options;
    const { kind, namespace, name } = status;
    const seen = lookup(kind, namespace === "" ? { name } : { namespace, name });
    if (seen === undefined) return undefined;
    const present = this.#recent.newer(objectId(status), seen);
    return statusPatch(status, present, new Date(clock.wall()).toISOString());
  }

  async #write(id: string, queue: Map<string, Pending>, pending: Pending, patch: KubeObject): Promise<void> {
    const { store, clock, log } = this.#options;
    const { status } = pending;
    const kind = statusKindOf(status.kind);
    if (kind === undefined) return;
    const about = { object: `${status.kind} ${status.namespace}/${status.name}` };
    try {
      const options = { manager: status.manager, subresource: "status", signal: this.#stop.signal } as const;
      this.#recent.add(objectId(status), await store.apply(kind, patch, options));
      this.#counts.written += 1;
      this.#outage.reset();
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      const code = error instanceof StoreError ? error.code : undefined;
      if (code === "NOT_FOUND") {
        this.#counts.skipped += 1;
        return;
      }
      if (code === "UNAVAILABLE") this.#pause(messageOf(error));
      // Something newer takes its place.
      if (queue.has(id)) return;
      if (code === "UNAVAILABLE") {
        queue.set(id, pending);
        return;
      }
      const attempts = pending.attempts + 1;
      if (code === "CONFLICT" && attempts < MAX_ATTEMPTS) {
        queue.set(id, { ...pending, attempts, due: clock.now() + pending.retry.next() });
        return;
      }
      this.#counts.failed += 1;
      // One missing permission is told once, not for each of ten thousand objects.
      const what = `${status.kind} ${code}`;
      const say = this.#told.has(what) ? log.debug.bind(log) : log.warn.bind(log);
      this.#told.add(what);
      say("a status was not written", { ...about, attempts, error: messageOf(error) });
    }
  }

  #pause(reason: string): void {
    const { clock, log } = this.#options;
    if (clock.now() < this.#outageUntil) return;
    const wait = this.#outage.next();
    this.#outageUntil = clock.now() + wait;
    log.warn("statuses wait for the API", { error: reason, retry: `${Math.round(wait)}ms` });
  }
}

function objectId({ kind, namespace, name }: ObjectStatus): string {
  return `${kind} ${namespace}/${name}`;
}
