import { type CachedResource, type ResourceSource, withAliases } from "./resource-cache.ts";

/** What a client asks for (the subscription fields of a DeltaDiscoveryRequest). */
export interface SubscriptionRequest {
  readonly resourceNamesSubscribe: readonly string[];
  readonly resourceNamesUnsubscribe: readonly string[];
  readonly initialResourceVersions: Readonly<Record<string, string>>;
}

export interface SubscriptionOptions {
  /** Every client gets everything, whatever it asks for. */
  readonly alwaysWildcard: boolean;
  /** Keys that this client is subscribed to unasked, when it is not a wildcard one. */
  readonly impliedKeys: readonly string[];
  /** Keys that the client's requests may not name: they are passed over. Default: none. */
  readonly isInternal?: (key: string) => boolean;
}

/** What to send next: encoded resources and names that are gone. */
export interface Delta {
  readonly resources: Uint8Array[];
  readonly removed: string[];
}

const WILDCARD = "*";
/** Keys one client may subscribe to, or hold when it comes back. */
export const MAX_NAMES = 1_000_000;

/**
 * What one client wants of one type, and what it has not been sent yet. Pending changes are names only: what is sent is
 * what the cache holds at that time, so that a slow client costs no memory and skips what is out of date. Spec:
 * control-plane §3.3.
 */
export class ServerSubscription {
  readonly #cache: ResourceSource;
  readonly #options: SubscriptionOptions;
  readonly #keys: Set<string>;
  #wildcard: boolean;
  /** On demand: names that were sent, which makes them subscribed. A wildcard client's are not stored. */
  readonly #sent = new Set<string>();
  /** Changed or gone since the last delta. */
  readonly #pending = new Set<string>();
  /** Keys to look up for the next delta. */
  #newKeys: Set<string>;
  /** A wildcard client's first answer: everything. */
  #everything: boolean;
  /** What the client held when it came; dropped with the first answer. */
  #held: ReadonlyMap<string, string>;
  /** Changes up to here are in what was sent. */
  #base = 0;
  #due = true;

  /** Throws RangeError when the client names too many resources. */
  constructor(cache: ResourceSource, options: SubscriptionOptions, first: SubscriptionRequest) {
    this.#cache = cache;
    this.#options = options;
    const subscribe = first.resourceNamesSubscribe;
    const without = new Set(first.resourceNamesUnsubscribe);
    const held = Object.entries(first.initialResourceVersions);
    const asked = [...subscribe, ...held.map(([name]) => name)].filter((name) => !without.has(name));
    checkCount(asked.length);
    const names = asked.filter((name) => this.#mayName(name));
    this.#wildcard = options.alwaysWildcard || subscribe.length === 0 || names.includes(WILDCARD);
    this.#keys = new Set(this.#wildcard ? [] : [...names, ...options.impliedKeys]);
    this.#newKeys = new Set(this.#keys);
    this.#everything = this.#wildcard;
    this.#held = new Map(held);
  }

  /** Whether the client waits for an answer, which is then sent even when it is empty. */
  get answerDue(): boolean {
    return this.#due;
  }

  /** Whether the client gets everything, because it asked for it or because everybody does. */
  get wildcard(): boolean {
    return this.#wildcard;
  }

  get hasChanges(): boolean {
    return this.#pending.size > 0;
  }

  /** A later request that changes what the client wants; every such request is answered. */
  request(request: Pick<SubscriptionRequest, "resourceNamesSubscribe" | "resourceNamesUnsubscribe">): void {
    const { resourceNamesSubscribe: subscribe, resourceNamesUnsubscribe: unsubscribe } = request;
    if (subscribe.length === 0 && unsubscribe.length === 0) return;
    this.#due = true;
    if (this.#options.alwaysWildcard) return;
    checkCount(this.#keys.size + subscribe.length);
    const without = new Set(unsubscribe);
    for (const key of without) {
      if (!this.#mayName(key)) continue;
      this.#keys.delete(key);
      this.#newKeys.delete(key);
      this.#sent.delete(key);
    }
    if (without.has(WILDCARD)) this.#wildcard = false;
    for (const key of subscribe) {
      if (without.has(key) || !this.#mayName(key)) continue;
      if (key === WILDCARD) {
        this.#wildcard = true;
        this.#everything = true;
      } else {
        this.#keys.add(key);
        this.#newKeys.add(key);
      }
    }
  }

  /** Notes changes of the cache (what `update` has returned) that concern this client. */
  changed(names: ReadonlyMap<string, number>): void {
    for (const [name, sequence] of names) {
      if (sequence > this.#base && this.#wants(name)) this.#pending.add(name);
    }
  }

  /** Takes what is to be sent now. */
  take(): Delta {
    const delta: Delta = { resources: [], removed: [] };
    if (this.#everything) this.#takeEverything(delta);
    else {
      this.#takeNewKeys(delta);
      this.#takePending(delta);
    }
    this.#everything = false;
    this.#due = false;
    this.#held = new Map();
    return delta;
  }

  #mayName(key: string): boolean {
    return !(this.#options.isInternal?.(key) ?? false);
  }

  #wants(name: string): boolean {
    if (this.#wildcard || this.#sent.has(name)) return true;
    return this.#cache.get(name)?.keys.some((key) => this.#keys.has(key)) ?? false;
  }

  #takeEverything(delta: Delta): void {
    for (const resource of this.#cache.all()) {
      if (this.#held.get(resource.name) !== resource.version) delta.resources.push(resource.encoded);
    }
    for (const name of this.#held.keys()) if (this.#cache.get(name) === undefined) delta.removed.push(name);
    this.#pending.clear();
    this.#newKeys = new Set();
    // Changes that are still on their way to this client are in it.
    this.#base = this.#cache.sequence;
  }

  #takeNewKeys(delta: Delta): void {
    const taken = new Map<string, CachedResource>();
    const covered = new Set<string>();
    const missing: string[] = [];
    for (const key of this.#newKeys) {
      let found = false;
      for (const resource of this.#cache.find(key)) {
        found = true;
        taken.set(resource.name, resource);
      }
      if (!found && !this.#options.impliedKeys.includes(key)) missing.push(key);
    }
    for (const resource of taken.values()) {
      this.#pending.delete(resource.name);
      for (const alias of resource.aliases) covered.add(alias);
      if (!this.#wildcard) this.#sent.add(resource.name);
      if (this.#held.get(resource.name) !== resource.version) delta.resources.push(withAliases(resource));
    }
    for (const key of missing) if (!covered.has(key)) delta.removed.push(key);
    this.#newKeys = new Set();
  }

  #takePending(delta: Delta): void {
    for (const name of this.#pending) {
      const resource = this.#cache.get(name);
      if (resource === undefined) {
        this.#sent.delete(name);
        delta.removed.push(name);
      } else if (this.#wildcard) delta.resources.push(resource.encoded);
      else {
        this.#sent.add(name);
        delta.resources.push(withAliases(resource));
      }
    }
    this.#pending.clear();
  }
}

function checkCount(count: number): void {
  if (count > MAX_NAMES) throw new RangeError(`more than ${MAX_NAMES} resource names`);
}
