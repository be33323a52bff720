import { Code, ConnectError } from "@connectrpc/connect";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ads, core, encoded } from "@tulle/api";
import { messageOf } from "@tulle/base";
import { ResourceCache } from "./resource-cache.ts";
import { Signal } from "./signal.ts";
import { ServerSubscription } from "./subscription.ts";

/** Who is on the other end of a stream. */
export interface XdsPeer {
  /** What authentication has shown; for the log. */
  readonly principal: string;
  readonly node: core.Node;
}

/** A type that a server serves. */
export interface XdsType {
  readonly typeUrl: string;
  /** Everybody gets everything (Authorization). Default false. */
  readonly alwaysWildcard?: boolean;
  /** Keys that an on-demand client is subscribed to unasked: `node:<name>` gives a proxy its own workloads. */
  readonly impliedKeys?: (peer: XdsPeer) => readonly string[];
}

export interface Nack {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly message: string;
}

/** What is known of a client's type: for `proxy-status`. */
export interface TypeStatus {
  readonly typeUrl: string;
  readonly sentNonce: string;
  readonly ackedNonce: string;
  /** The last refusal, unless something was accepted since. */
  readonly error: string | undefined;
}

export interface StreamOptions {
  readonly types: ReadonlyMap<string, { readonly type: XdsType; readonly cache: ResourceCache }>;
  readonly peer: XdsPeer;
  readonly onNack: (nack: Nack) => void;
  readonly ackTimeoutMs: number;
  /** Names the state that is sent: `system_version_info`. */
  readonly version: () => string;
}

type Response = MessageInitShape<typeof encoded.EncodedDeltaDiscoveryResponseSchema>;

interface TypeState {
  readonly typeUrl: string;
  readonly subscription: ServerSubscription;
  /** Nonces of responses that were not acknowledged, oldest first. */
  readonly unacked: string[];
  /** When the oldest of them was sent. */
  waitingSince: number;
  sentNonce: string;
  ackedNonce: string;
  error: string | undefined;
}

/** More than that on one stream is no proxy. */
const MAX_TYPES = 32;
/** Answers that may be under way at a time; a client that asks on without acknowledging waits. */
const MAX_UNACKED = 16;
/** Clients take messages of 200 MiB; a larger state goes in several. */
const MAX_RESPONSE_BYTES = 150 * 1024 * 1024;

/**
 * One client's stream. Changes wait as names; a type's next response is made when the one before was acknowledged and the
 * transport asks for it, from the state of that moment. So a slow client is sent less, never queued more.
 */
export class AdsStream {
  readonly #options: StreamOptions;
  /** In the server's order of types, which is the order of sending. */
  readonly #states = new Map<string, TypeState>();
  readonly #work = new Signal();
  #failure: ConnectError | undefined;
  #ended = false;
  #nonces = 0;

  constructor(options: StreamOptions) {
    this.#options = options;
  }

  get peer(): XdsPeer {
    return this.#options.peer;
  }

  status(): TypeStatus[] {
    return [...this.#states.values()].map(({ typeUrl, sentNonce, ackedNonce, error }) => ({
      typeUrl,
      sentNonce,
      ackedNonce,
      error,
    }));
  }

  /** What the cache has changed. */
  changed(typeUrl: string, names: ReadonlyMap<string, number>): void {
    const subscription = this.#states.get(typeUrl)?.subscription;
    if (subscription === undefined) return;
    subscription.changed(names);
    if (subscription.hasChanges) this.#work.raise();
  }

  /** Ends the stream; an error reaches the client. */
  end(error?: ConnectError): void {
    this.#failure ??= error;
    this.#ended = true;
    this.#work.raise();
  }

  /** Reads requests until they end. The first one was read already. */
  async read(first: ads.DeltaDiscoveryRequest, rest: AsyncIterator<ads.DeltaDiscoveryRequest>): Promise<void> {
    try {
      this.#onRequest(first);
      for (let next = await rest.next(); next.done !== true && !this.#ended; next = await rest.next()) {
        this.#onRequest(next.value);
      }
      this.end();
    } catch (error) {
      // Anything else means that the client is gone: nobody is left to be told.
      const tooMuch = error instanceof RangeError;
      this.end(tooMuch ? new ConnectError(messageOf(error), Code.ResourceExhausted) : undefined);
    }
  }

  /** Responses, as the transport takes them. Throws the ConnectError that ends the stream. */
  async *responses(): AsyncGenerator<Response> {
    const watchdog = setInterval(() => this.#checkAcks(), this.#options.ackTimeoutMs / 4);
    try {
      for (;;) {
        if (this.#failure !== undefined) throw this.#failure;
        if (this.#ended) return;
        const state = this.#nextState();
        if (state === undefined) await this.#work.wait();
        else for (const response of this.#respond(state)) yield response;
      }
    } finally {
      clearInterval(watchdog);
      this.#ended = true;
    }
  }

  #onRequest(request: ads.DeltaDiscoveryRequest): void {
    const { typeUrl, responseNonce } = request;
    const state = this.#states.get(typeUrl);
    if (state === undefined) this.#open(request);
    else {
      if (responseNonce !== "") this.#onAck(state, request);
      state.subscription.request(request);
    }
    this.#work.raise();
  }

  #open(request: ads.DeltaDiscoveryRequest): void {
    const { typeUrl } = request;
    if (this.#states.size >= MAX_TYPES) throw new RangeError(`more than ${MAX_TYPES} resource types on one stream`);
    // A type that is not served is answered as empty: a client waits for one answer for each.
    const { type, cache } = this.#options.types.get(typeUrl) ?? {
      type: { typeUrl },
      cache: new ResourceCache(typeUrl),
    };
    const options = {
      alwaysWildcard: type.alwaysWildcard ?? false,
      impliedKeys: type.impliedKeys?.(this.#options.peer) ?? [],
    };
    const subscription = new ServerSubscription(cache, options, request);
    const fresh = {
      typeUrl,
      subscription,
      unacked: [],
      waitingSince: 0,
      sentNonce: "",
      ackedNonce: "",
      error: undefined,
    };
    this.#states.set(typeUrl, fresh);
  }

  #onAck(state: TypeState, request: ads.DeltaDiscoveryRequest): void {
    const place = state.unacked.indexOf(request.responseNonce);
    // Stale or invented: it acknowledges nothing.
    if (place < 0) return;
    state.unacked.splice(0, place + 1);
    state.waitingSince = performance.now();
    state.ackedNonce = request.responseNonce;
    state.error = request.errorDetail?.message;
    if (request.errorDetail === undefined) return;
    const { message } = request.errorDetail;
    this.#options.onNack({ typeUrl: state.typeUrl, nonce: request.responseNonce, message });
  }

  #nextState(): TypeState | undefined {
    const ordered = [...this.#options.types.keys(), ...this.#states.keys()];
    for (const typeUrl of ordered) {
      const state = this.#states.get(typeUrl);
      if (state === undefined) continue;
      const { subscription, unacked } = state;
      if (subscription.answerDue && unacked.length < MAX_UNACKED) return state;
      if (subscription.hasChanges && unacked.length === 0) return state;
    }
    return undefined;
  }

  *#respond(state: TypeState): Generator<Response> {
    const due = state.subscription.answerDue;
    const { resources, removed } = state.subscription.take();
    if (!due && resources.length === 0 && removed.length === 0) return;
    for (const part of split(resources)) {
      const nonce = `${this.#options.version()}.${++this.#nonces}`;
      if (state.unacked.length === 0) state.waitingSince = performance.now();
      state.unacked.push(nonce);
      state.sentNonce = nonce;
      yield {
        systemVersionInfo: this.#options.version(),
        typeUrl: state.typeUrl,
        nonce,
        resources: part,
        removedResources: removed.splice(0),
      };
    }
  }

  #checkAcks(): void {
    const { ackTimeoutMs } = this.#options;
    const late = performance.now() - ackTimeoutMs;
    for (const { typeUrl, unacked, waitingSince } of this.#states.values()) {
      if (unacked.length === 0 || waitingSince > late) continue;
      const text = `no acknowledgement of ${typeUrl} within ${ackTimeoutMs / 1000} s`;
      this.end(new ConnectError(text, Code.DeadlineExceeded));
    }
  }
}

/** In pieces that a client can take; at least one, if only an empty one. */
function split(resources: Uint8Array[]): Uint8Array[][] {
  const parts: Uint8Array[][] = [[]];
  let bytes = 0;
  for (const resource of resources) {
    if (bytes + resource.length > MAX_RESPONSE_BYTES && bytes > 0) {
      parts.push([]);
      bytes = 0;
    }
    parts.at(-1)?.push(resource);
    bytes += resource.length;
  }
  return parts;
}
