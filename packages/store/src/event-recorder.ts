import { Backoff, type Clock, type Log, messageOf, type Random, sleep } from "@tulle/base";
import { type EventInput, type KubeObject, type Store, StoreError } from "./contract.ts";
import { EVENT } from "./kinds.ts";
import type { Event } from "./objects/builtin.ts";

export interface EventRecorderOptions {
  readonly store: Pick<Store, "create" | "patch">;
  readonly component: string;
  /** Node or pod; may be empty. */
  readonly instance: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
}

/** Events that wait to be written: a further one is dropped and counted. */
const MAX_QUEUE = 1000;
/** Events that are counted instead of written again; the one that was used least lately is forgotten. */
const MAX_KNOWN = 4096;
/** A repetition after this is a new Event: the API server itself forgets Events after an hour. */
const SERIES_MS = 50 * 60_000;
/** Per object, as client-go does: so many at once, then one in five minutes; the others are dropped and counted. */
const BURST = 25;
const REFILL_MS = 300_000;
/** Objects with a token bucket; the one that was used least lately gets a full one again. */
const MAX_BUCKETS = 4096;
/** Attempts for one Event before it is dropped: about a minute. */
const MAX_ATTEMPTS = 8;
const RETRY = { initialMs: 200, maxMs: 15_000, jitter: 0.3 };
/** How long closing waits for what is queued. */
const FLUSH_MS = 2_000;
/** Longer messages are cut: the API server takes 1 kB, less some for prefixes. */
const MAX_MESSAGE = 1000;

interface Known {
  readonly name: string;
  readonly namespace: string;
  readonly first: number;
  count: number;
}

interface Waiting {
  readonly key: string;
  readonly about: KubeObject;
  readonly event: EventInput;
  readonly wall: number;
}

/**
 * Writes Events as `kubectl get events` and `kubectl describe` show them (core v1). Repetitions of an Event raise its count;
 * their rate per object is bounded. Never blocks and never throws: Events are for people, nothing may wait for them.
 */
export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #known = new Map<string, Known>();
  readonly #buckets = new Map<string, { tokens: number; at: number }>();
  readonly #queue: Waiting[] = [];
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #closing = false;
  #dropped = 0;
  #serial: number;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#serial = Math.floor(options.random() * 0xffffff);
  }

  /** Events that found no room, no token, or no API server. */
  get dropped(): number {
    return this.#dropped;
  }

  record(about: KubeObject, event: EventInput): void {
    if (this.#closing) return;
    const { uid, namespace = "", name } = about.metadata;
    const object = `${about.kind}/${namespace}/${name}/${uid ?? ""}`;
    if (this.#queue.length >= MAX_QUEUE || !this.#take(object)) {
      this.#drop(object);
      return;
    }
    const key = JSON.stringify([object, event.type, event.reason, event.message]);
    this.#queue.push({ key, about, event, wall: this.#options.clock.wall() });
    this.#running ??= this.#run();
  }

  /** Waits for what is queued, at most FLUSH_MS. */
  async close(): Promise<void> {
    this.#closing = true;
    if (this.#running === undefined) return;
    const timer = setTimeout(() => this.#stop.abort(), FLUSH_MS);
    await this.#running;
    clearTimeout(timer);
  }

  async #run(): Promise<void> {
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      if (!(await this.#deliver(next))) this.#drop(next.key);
    }
    this.#running = undefined;
  }

  /** Whether the Event was written, within MAX_ATTEMPTS. */
  async #deliver(waiting: Waiting): Promise<boolean> {
    const backoff = new Backoff({ ...RETRY, random: this.#options.random });
    for (let attempt = 0; attempt < MAX_ATTEMPTS && !this.#stop.signal.aborted; attempt++) {
      if (attempt > 0) await sleep(backoff.next(), this.#stop.signal);
      try {
        await this.#write(waiting);
        return true;
      } catch (error) {
        const passing = error instanceof StoreError && (error.code === "UNAVAILABLE" || error.code === "EXISTS");
        if (passing) continue;
        // The namespace is going away, or the role lacks the verb: waiting would not help.
        this.#options.log.debug("an event was refused", { reason: waiting.event.reason, error: messageOf(error) });
        return false;
      }
    }
    return false;
  }

  async #write({ key, about, event, wall }: Waiting): Promise<void> {
    const known = this.#known.get(key);
    this.#known.delete(key);
    if (known !== undefined && wall - known.first < SERIES_MS) {
      this.#known.set(key, known);
      try {
        const body = { count: known.count + 1, lastTimestamp: timestamp(wall) };
        await this.#options.store.patch(EVENT, known, { type: "merge", body });
        known.count += 1;
        return;
      } catch (error) {
        if (!(error instanceof StoreError && error.code === "NOT_FOUND")) throw error;
        // It expired, or somebody deleted it: begin a new one.
        this.#known.delete(key);
      }
    }
    const made = this.#eventObject(about, event, wall);
    await this.#options.store.create(EVENT, made);
    const { name, namespace = "" } = made.metadata;
    this.#known.set(key, { name, namespace, first: wall, count: 1 });
    forgetOldest(this.#known, MAX_KNOWN);
  }

  #eventObject(about: KubeObject, event: EventInput, wall: number): Event {
    const { component, instance } = this.#options;
    const { name, uid, resourceVersion } = about.metadata;
    // Events about cluster-scoped objects live in `default`.
    const namespace = about.metadata.namespace ?? "default";
    this.#serial = (this.#serial + 1) & 0xffffff;
    const suffix = `${Math.floor(wall).toString(16)}${this.#serial.toString(16).padStart(6, "0")}`;
    const message = event.message.length > MAX_MESSAGE ? `${event.message.slice(0, MAX_MESSAGE)}…` : event.message;
    return {
      apiVersion: "v1",
      kind: "Event",
      metadata: { namespace, name: `${name.slice(0, 200)}.${suffix}` },
      involvedObject: {
        apiVersion: about.apiVersion,
        kind: about.kind,
        name,
        ...(about.metadata.namespace === undefined ? {} : { namespace: about.metadata.namespace }),
        ...(uid === undefined ? {} : { uid }),
        ...(resourceVersion === undefined ? {} : { resourceVersion }),
      },
      type: event.type,
      reason: event.reason,
      message,
      count: 1,
      firstTimestamp: timestamp(wall),
      lastTimestamp: timestamp(wall),
      source: { component, ...(instance === "" ? {} : { host: instance }) },
      reportingComponent: component,
      reportingInstance: instance,
    };
  }

  #take(object: string): boolean {
    const now = this.#options.clock.now();
    const before = this.#buckets.get(object) ?? { tokens: BURST, at: now };
    const tokens = Math.min(BURST, before.tokens + (now - before.at) / REFILL_MS);
    this.#buckets.delete(object);
    this.#buckets.set(object, { tokens: tokens >= 1 ? tokens - 1 : tokens, at: now });
    forgetOldest(this.#buckets, MAX_BUCKETS);
    return tokens >= 1;
  }

  #drop(object: string): void {
    this.#dropped += 1;
    // Powers of two: seldom enough for a log, soon enough to be seen.
    if ((this.#dropped & (this.#dropped - 1)) === 0) {
      this.#options.log.warn("events were dropped", { dropped: this.#dropped, last: object });
    }
  }
}

/** `2026-01-01T00:00:00Z`: Kubernetes' timestamps have whole seconds. */
function timestamp(wall: number): string {
  return `${new Date(wall).toISOString().slice(0, 19)}Z`;
}

function forgetOldest(map: Map<string, unknown>, limit: number): void {
  for (const key of map.keys()) {
    if (map.size <= limit) return;
    map.delete(key);
  }
}
