import {
  Backoff,
  type Clock,
  formatIdentity,
  type Identity,
  type Log,
  MeshError,
  messageOf,
  type Random,
  silentLog,
  sleep as realSleep,
  systemClock,
} from "@tulle/base";
import { type FetchPriority, FetchQueue } from "./fetch-queue.ts";
import type { CertificateListener, IdentityStore, SecretEntry, SecretState } from "./identity-store.ts";
import type { WorkloadCertificate } from "./workload-certificate.ts";

/** Who signs: the client of an authority, or the authority itself in a test. */
export interface CertificateSource {
  /** Rejects with an Error whose message says why. */
  fetch(identity: Identity, signal: AbortSignal): Promise<WorkloadCertificate>;
}

export interface SecretManagerOptions {
  readonly source: CertificateSource;
  readonly log?: Log;
  readonly clock?: Clock;
  readonly random?: Random;
  /** Waits in milliseconds, or until the signal aborts. Default: timers. */
  readonly sleep?: typeof realSleep;
  /** Requests at a time. Default 8. */
  readonly concurrency?: number;
}

interface Waiter {
  resolve(certificate: WorkloadCertificate): void;
  reject(error: Error): void;
}

interface Entry {
  readonly identity: Identity;
  readonly uri: string;
  readonly backoff: Backoff;
  readonly waiters: Waiter[];
  /** Aborts the fetch and the wait for the next one. */
  readonly ended: AbortController;
  state: SecretState;
  inFlight: boolean;
  /** Counts the waits, so that only the latest one leads to a fetch. */
  waits: number;
  /** When the last fetch failed, milliseconds since the epoch. */
  failedAt: number;
  /** A connection waits, and the next fetch has been moved forward for it. */
  hurried: boolean;
}

const CONCURRENCY = 8;
/** Far more than the identities of one node's pods. */
const MAX_IDENTITIES = 4096;
/** Callers that wait for one identity's first certificate; each is a connection of that pod. */
const MAX_WAITERS = 10_000;
/** A certificate is renewed at half of its life, give or take this part of its life: a fleet does not renew at once. */
const RENEWAL_JITTER = 0.05;
/** Not more often, whatever validity the authority hands out. */
const MIN_RENEWAL_MS = 1_000;
const BACKOFF = { initialMs: 1_000, maxMs: 150_000, jitter: 0.2 } as const;
/** A connection that waits cuts the back-off short, but not below this: the authority is back, or has only now heard of the pod. */
const HURRIED_RETRY_MS = 250;
/** Waits are cut into pieces: timers hold 24 days at most, and a machine that slept is noticed. */
const MAX_WAIT_MS = 3_600_000;

/**
 * The certificates of a node's identities: fetched once each, by priority, renewed at half life, kept until they expire
 * when renewal fails. Keys are never logged or shown. Spec: l4-ztunnel §6.
 */
export class SecretManager implements IdentityStore {
  readonly #options: SecretManagerOptions;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #sleep: typeof realSleep;
  readonly #entries = new Map<string, Entry>();
  readonly #queue = new FetchQueue<Entry>();
  readonly #listeners = new Set<CertificateListener>();
  #active = 0;
  #closed = false;

  constructor(options: SecretManagerOptions) {
    this.#options = options;
    this.#log = options.log ?? silentLog;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#sleep = options.sleep ?? realSleep;
  }

  async get(identity: Identity, priority: FetchPriority = "realtime"): Promise<WorkloadCertificate> {
    const entry = this.#entryOf(identity);
    const { state } = entry;
    if (state.kind === "available" && this.#isValid(state.certificate)) return state.certificate;
    if (state.kind === "unavailable" && priority !== "realtime") throw unavailable(state.reason);
    if (entry.waiters.length >= MAX_WAITERS) throw unavailable(`${MAX_WAITERS} callers wait for ${entry.uri} already`);
    const certificate = new Promise<WorkloadCertificate>((resolve, reject) => {
      entry.waiters.push({ resolve, reject });
    });
    if (state.kind === "unavailable") this.#hurry(entry);
    else this.#request(entry, priority);
    return certificate;
  }

  current(identity: Identity): WorkloadCertificate | undefined {
    const state = this.#entries.get(formatIdentity(identity))?.state;
    return state?.kind === "available" && this.#isValid(state.certificate) ? state.certificate : undefined;
  }

  warm(identity: Identity): void {
    const known = this.#entries.get(formatIdentity(identity));
    if (known !== undefined && known.state.kind !== "initializing") return;
    try {
      this.#request(this.#entryOf(identity), "warmup");
    } catch (error) {
      this.#log.warn("cannot fetch a certificate ahead", {
        identity: formatIdentity(identity),
        error: messageOf(error),
      });
    }
  }

  forget(identity: Identity): void {
    const entry = this.#entries.get(formatIdentity(identity));
    if (entry === undefined) return;
    this.#entries.delete(entry.uri);
    this.#end(entry);
  }

  entries(): SecretEntry[] {
    return [...this.#entries.values()]
      .sort((a, b) => (a.uri < b.uri ? -1 : 1))
      .map(({ identity, uri, state }) => ({
        identity,
        uri,
        state,
      }));
  }

  subscribe(listener: CertificateListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Requests in flight and waiting, for metrics and tests. */
  get load(): { readonly active: number; readonly queued: number } {
    return { active: this.#active, queued: this.#queue.size };
  }

  close(): void {
    this.#closed = true;
    for (const entry of this.#entries.values()) this.#end(entry);
    this.#entries.clear();
    this.#listeners.clear();
  }

  #entryOf(identity: Identity): Entry {
    const uri = formatIdentity(identity);
    const known = this.#entries.get(uri);
    if (known !== undefined) return known;
    if (this.#closed) throw unavailable("the certificate store is closed");
    if (this.#entries.size >= MAX_IDENTITIES) throw unavailable(`there are ${MAX_IDENTITIES} identities already`);
    const entry: Entry = {
      identity,
      uri,
      backoff: new Backoff({ ...BACKOFF, random: this.#random }),
      waiters: [],
      ended: new AbortController(),
      state: { kind: "initializing" },
      inFlight: false,
      waits: 0,
      failedAt: 0,
      hurried: false,
    };
    this.#entries.set(uri, entry);
    return entry;
  }

  #end(entry: Entry): void {
    this.#queue.delete(entry);
    entry.ended.abort();
    rejectAll(entry, unavailable("the identity is no longer needed"));
  }

  #request(entry: Entry, priority: FetchPriority): void {
    if (entry.inFlight) return;
    this.#queue.add(entry, priority);
    this.#pump();
  }

  #pump(): void {
    while (this.#active < (this.#options.concurrency ?? CONCURRENCY)) {
      const entry = this.#queue.next();
      if (entry === undefined) return;
      this.#active++;
      entry.inFlight = true;
      entry.hurried = false;
      void this.#fetch(entry).finally(() => {
        this.#active--;
        this.#pump();
      });
    }
  }

  /** Never rejects. */
  async #fetch(entry: Entry): Promise<void> {
    const { signal } = entry.ended;
    try {
      const certificate = await this.#options.source.fetch(entry.identity, signal);
      if (signal.aborted) return;
      entry.inFlight = false;
      if (!this.#isValid(certificate))
        throw new Error(`the authority's certificate for ${entry.uri} has expired already`);
      this.#accept(entry, certificate);
    } catch (error) {
      entry.inFlight = false;
      if (!signal.aborted) this.#fail(entry, messageOf(error));
    }
  }

  #accept(entry: Entry, certificate: WorkloadCertificate): void {
    entry.backoff.reset();
    entry.state = { kind: "available", certificate };
    const { serialNumber, notAfter } = certificate;
    this.#log.debug("certificate fetched", {
      identity: entry.uri,
      serialNumber,
      expires: new Date(notAfter).toISOString(),
    });
    for (const waiter of entry.waiters.splice(0)) waiter.resolve(certificate);
    this.#tell(entry.identity, certificate);
    this.#fetchAt(entry, renewalTime(certificate, this.#clock.wall(), this.#random));
  }

  #fail(entry: Entry, reason: string): void {
    const now = this.#clock.wall();
    const delay = Math.min(BACKOFF.maxMs, entry.backoff.next());
    const { state } = entry;
    this.#log.warn("cannot fetch a certificate", { identity: entry.uri, error: reason, retryMs: Math.round(delay) });
    if (state.kind === "available" && this.#isValid(state.certificate)) {
      // Still good: the next attempt comes no later than its end.
      this.#fetchAt(entry, Math.min(now + delay, state.certificate.notAfter));
      return;
    }
    entry.state = { kind: "unavailable", reason };
    entry.failedAt = now;
    rejectAll(entry, unavailable(reason));
    if (state.kind === "available") this.#tell(entry.identity, undefined);
    this.#fetchAt(entry, now + delay);
  }

  #hurry(entry: Entry): void {
    if (entry.hurried || entry.inFlight) return;
    entry.hurried = true;
    this.#fetchAt(entry, entry.failedAt + HURRIED_RETRY_MS, "realtime");
  }

  #fetchAt(entry: Entry, wall: number, priority: FetchPriority = "background"): void {
    const wait = ++entry.waits;
    void this.#waitUntil(wall, entry.ended.signal).then(() => {
      if (!entry.ended.signal.aborted && entry.waits === wait) this.#request(entry, priority);
    });
  }

  async #waitUntil(wall: number, signal: AbortSignal): Promise<void> {
    for (let left = wall - this.#clock.wall(); left > 0 && !signal.aborted; left = wall - this.#clock.wall()) {
      await this.#sleep(Math.min(left, MAX_WAIT_MS), signal);
    }
  }

  #tell(identity: Identity, certificate: WorkloadCertificate | undefined): void {
    for (const listener of this.#listeners) {
      try {
        listener(identity, certificate);
      } catch (error) {
        this.#log.error("a listener for certificates failed", { error: messageOf(error) });
      }
    }
  }

  #isValid(certificate: WorkloadCertificate): boolean {
    return certificate.notAfter > this.#clock.wall();
  }
}

/** Half of the life, ± jitter (milliseconds since the epoch). */
export function renewalTime(
  certificate: { readonly notBefore: number; readonly notAfter: number },
  now: number,
  random: Random,
): number {
  const life = certificate.notAfter - certificate.notBefore;
  const part = 0.5 + RENEWAL_JITTER * (2 * random() - 1);
  return Math.max(now + MIN_RENEWAL_MS, certificate.notBefore + life * part);
}

function rejectAll(entry: Entry, error: Error): void {
  for (const waiter of entry.waiters.splice(0)) waiter.reject(error);
}

function unavailable(reason: string): MeshError {
  return new MeshError(reason, { code: "IDENTITY_UNAVAILABLE", side: "internal" });
}
