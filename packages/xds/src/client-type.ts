/** One resource as it came: `bytes` is the encoded message of `typeUrl`. */
export interface XdsResource {
  readonly name: string;
  readonly version: string;
  readonly typeUrl: string;
  readonly bytes: Uint8Array;
}

export interface XdsUpdate {
  readonly resources: readonly XdsResource[];
  /** Names that are gone, or (on demand) that nothing was found for. */
  readonly removed: readonly string[];
}

/** A resource that could not be used; its old version stays. */
export interface Rejection {
  readonly name: string;
  readonly reason: string;
}

/** What a client does with the resources of a type. */
export interface XdsTypeHandler {
  readonly typeUrl: string;
  /** `wildcard` (default): everything. `on-demand`: only what `demand` asks for, and what the server adds unasked. */
  readonly mode?: "wildcard" | "on-demand";
  /** Applies what can be applied and returns the rest. Throwing rejects all of it. */
  apply(update: XdsUpdate): readonly Rejection[] | Promise<readonly Rejection[]>;
}

/** The subscription part of a request (envoy.service.discovery.v3.DeltaDiscoveryRequest). */
export interface Subscription {
  readonly resourceNamesSubscribe: string[];
  readonly resourceNamesUnsubscribe: string[];
  readonly initialResourceVersions: { [name: string]: string };
}

/** Names asked for and never released; more is a leak or an attack from a pod. */
const MAX_DEMANDED = 100_000;

/** What a client holds and wants of one type, across reconnects. */
export class ClientType {
  readonly handler: XdsTypeHandler;
  readonly #versions = new Map<string, string>();
  /** Asked for on demand. The promise is settled by the first answer. */
  readonly #demanded = new Map<string, PromiseWithResolvers<void>>();
  #unsent: string[] = [];
  /** Set by the first response that was accepted. */
  accepted = false;

  constructor(handler: XdsTypeHandler) {
    this.handler = handler;
  }

  get wildcard(): boolean {
    return this.handler.mode !== "on-demand";
  }

  /** The first request on a stream: what is held already, so that only the difference comes. */
  firstSubscription(): Subscription {
    this.#unsent = [];
    const versions = Object.fromEntries([...this.#demanded.keys()].map((name) => [name, ""]));
    for (const [name, version] of this.#versions) versions[name] = version;
    return {
      resourceNamesSubscribe: this.wildcard ? [] : ["*"],
      // Both at once: a subscription to nothing yet.
      resourceNamesUnsubscribe: this.wildcard ? [] : ["*"],
      initialResourceVersions: versions,
    };
  }

  /** Asks for a name. Resolves with the first answer, whatever it is. Throws Error when too many were asked for. */
  demand(name: string): Promise<void> {
    const known = this.#demanded.get(name);
    if (known !== undefined) return known.promise;
    if (this.#demanded.size >= MAX_DEMANDED) throw new Error(`more than ${MAX_DEMANDED} resources were asked for`);
    const answer = Promise.withResolvers<void>();
    this.#demanded.set(name, answer);
    this.#unsent.push(name);
    return answer.promise;
  }

  /** Names that were asked for since the last call. */
  takeUnsent(): string[] {
    const names = this.#unsent;
    this.#unsent = [];
    return names;
  }

  /** Remembers what was accepted. */
  record(update: XdsUpdate, rejections: readonly Rejection[]): void {
    const rejected = new Set(rejections.map((one) => one.name));
    for (const { name, version } of update.resources) if (!rejected.has(name)) this.#versions.set(name, version);
    for (const name of update.removed) if (!rejected.has(name)) this.#versions.delete(name);
  }

  /** Tells those who wait for these names (or aliases) that there was an answer. */
  answer(names: Iterable<string>): void {
    for (const name of names) this.#demanded.get(name)?.resolve();
  }

  /** How many resources are held. */
  get size(): number {
    return this.#versions.size;
  }
}
