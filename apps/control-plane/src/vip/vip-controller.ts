import {
  Backoff,
  type Cidr,
  type Clock,
  type Log,
  messageOf,
  parseCidr,
  type Random,
  sleep as realSleep,
} from "@tulle/base";
import {
  type JsonPatchOperation,
  type ObjectRef,
  SERVICE_ENTRY,
  type ServiceEntry,
  type Store,
  StoreError,
  type StoreErrorCode,
} from "@tulle/store";
import { RecentWrites } from "../status/recent-writes.ts";
import { readVipEntry, type VipAddress, type VipEntry } from "./vip-entry.ts";
import { type VipRanges, VipRegistry } from "./vip-registry.ts";

export interface VipControllerOptions {
  readonly store: Pick<Store, "patch" | "event">;
  /** Default `DEFAULT_VIP_RANGES`. */
  readonly ranges?: VipRanges;
  readonly log: Log;
  readonly clock: Clock;
  readonly random?: Random;
  readonly sleep?: typeof realSleep;
}

/** Upstream's ranges: reserved, so that no real host has them. */
export const DEFAULT_VIP_RANGES: VipRanges = {
  ipv4: required("240.240.0.0/16"),
  ipv6: required("2001:2::/48"),
};

/** Of one decision. A conflict is settled by the newer object, which the watch brings in milliseconds. */
const MAX_ATTEMPTS = 5;
const RETRY = { initialMs: 50, maxMs: 1_000, jitter: 0.2 };
/** The API does not answer: waited for without end, nothing else is done meanwhile. */
const OUTAGE = { initialMs: 250, maxMs: 15_000, jitter: 0.2 };

/**
 * Gives the hosts of ServiceEntries addresses of their own (control-plane.md §2.5), in `status.addresses`. It is fed by a
 * watch; nothing is handed out before `start`, when all that stands in statuses is known. One entry at a time.
 */
export class VipController implements AsyncDisposable {
  readonly #options: VipControllerOptions;
  readonly #sleep: typeof realSleep;
  readonly #registry: VipRegistry;
  readonly #recent: RecentWrites;
  readonly #due = new Set<string>();
  readonly #stop = new AbortController();
  /** Entries that were told that there is nothing left. */
  readonly #told = new Set<string>();
  #running: Promise<void> | undefined;
  #started = false;

  constructor(options: VipControllerOptions) {
    const { clock, ranges = DEFAULT_VIP_RANGES } = options;
    this.#options = options;
    this.#sleep = options.sleep ?? realSleep;
    this.#registry = new VipRegistry({ clock, ...ranges });
    this.#recent = new RecentWrites(clock);
  }

  put(seen: ServiceEntry): void {
    const { namespace = "", name } = seen.metadata;
    const object = this.#recent.newer(`${namespace}/${name}`, seen) as ServiceEntry;
    this.#schedule(this.#registry.put(readVipEntry(object)));
  }

  remove({ namespace = "", name }: ObjectRef): void {
    const key = `${namespace}/${name}`;
    this.#due.delete(key);
    this.#told.delete(key);
    this.#schedule(this.#registry.remove(key));
  }

  /** The first state is complete. The oldest entries come first. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    const entries = [...this.#due].flatMap((key) => this.#registry.get(key) ?? []);
    this.#due.clear();
    entries.sort((a, b) => a.created - b.created || (a.key < b.key ? -1 : 1));
    this.#schedule(entries.map(({ key }) => key));
  }

  get counts() {
    return { ...this.#registry.counts, pending: this.#due.size };
  }

  /** Resolves when there is nothing left to do at the moment. */
  async settled(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #schedule(keys: Iterable<string>): void {
    for (const key of keys) this.#due.add(key);
    if (!this.#started || this.#running !== undefined || this.#due.size === 0) return;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
      // What came in the last moment.
      if (!this.#stop.signal.aborted) this.#schedule([]);
    });
  }

  async #run(): Promise<void> {
    for (;;) {
      const [key] = this.#due;
      if (key === undefined || this.#stop.signal.aborted) return;
      this.#due.delete(key);
      await this.#settle(key);
    }
  }

  /** Until the entry's status is as it should be, or it cannot be. */
  async #settle(key: string): Promise<void> {
    const { random = Math.random, log } = this.#options;
    const { signal } = this.#stop;
    const retry = new Backoff({ ...RETRY, random });
    const outage = new Backoff({ ...OUTAGE, random });
    for (let attempt = 1; !signal.aborted; ) {
      const decision = this.#registry.decide(key);
      const entry = this.#registry.get(key);
      if (entry === undefined) return;
      this.#tellExhausted(entry, decision.exhausted);
      if (decision.addresses === undefined) return;
      const about = { serviceentry: key };
      if (decision.lost.length > 0) {
        log.info("addresses belong to another entry and are replaced", { ...about, addresses: decision.lost.join() });
      }
      const failure = await this.#write(entry, decision.addresses);
      if (failure === undefined || failure.code === "NOT_FOUND" || signal.aborted) return;
      if (failure.code === "UNAVAILABLE") {
        const wait = outage.next();
        log.warn("addresses wait for the API", { error: failure.message, retry: `${Math.round(wait)}ms` });
        await this.#sleep(wait, signal);
        continue;
      }
      if (failure.code !== "CONFLICT" || attempt >= MAX_ATTEMPTS) {
        log.warn("addresses were not written", { ...about, attempts: attempt, error: failure.message });
        return;
      }
      attempt += 1;
      await this.#sleep(retry.next(), signal);
    }
  }

  async #write(
    { object, key }: VipEntry,
    addresses: readonly VipAddress[],
  ): Promise<{ readonly code: StoreErrorCode | undefined; readonly message: string } | undefined> {
    const { namespace = "", name } = object.metadata;
    const options = { subresource: "status", signal: this.#stop.signal } as const;
    try {
      const body = patchOf(object, addresses);
      const written = await this.#options.store.patch(
        SERVICE_ENTRY,
        { namespace, name },
        { type: "json", body },
        options,
      );
      this.#recent.add(key, written);
      // Gone meanwhile: what was written is not an entry of ours any more.
      if (this.#registry.get(key) === undefined) return undefined;
      for (const other of this.#registry.put(readVipEntry(written))) if (other !== key) this.#due.add(other);
      return undefined;
    } catch (error) {
      return { code: error instanceof StoreError ? error.code : undefined, message: messageOf(error) };
    }
  }

  #tellExhausted({ key, object }: VipEntry, families: readonly string[]): void {
    if (families.length === 0) {
      this.#told.delete(key);
      return;
    }
    if (this.#told.has(key)) return;
    this.#told.add(key);
    const message = `no ${families.join(" and ")} address is left for its hosts: delete entries that nobody needs, or set spec.addresses`;
    this.#options.log.warn("virtual addresses are exhausted", { serviceentry: key, families: families.join() });
    this.#options.store.event(object, { type: "Warning", reason: "AddressesExhausted", message });
  }
}

/** Fails when somebody else has changed the list meanwhile, or when it is another object of the same name. */
function patchOf({ metadata, status }: ServiceEntry, addresses: readonly VipAddress[]): JsonPatchOperation[] {
  const { uid, resourceVersion } = metadata;
  const present = status?.addresses;
  const patch: JsonPatchOperation[] = [];
  if (uid !== undefined) patch.push({ op: "test", path: "/metadata/uid", value: uid });
  if (present !== undefined) patch.push({ op: "test", path: "/status/addresses", value: present });
  // What is not there cannot be tested: then nothing at all may have changed.
  else if (resourceVersion !== undefined) {
    patch.push({ op: "test", path: "/metadata/resourceVersion", value: resourceVersion });
  }
  if (status === undefined) patch.push({ op: "add", path: "/status", value: {} });
  if (addresses.length > 0) {
    patch.push({ op: present === undefined ? "add" : "replace", path: "/status/addresses", value: addresses });
  } else if (present !== undefined) {
    patch.push({ op: "remove", path: "/status/addresses" });
  }
  return patch;
}

function required(text: string): Cidr {
  const range = parseCidr(text);
  if (range === undefined) throw new Error(`${text} is not a range`);
  return range;
}
