import { Code, ConnectError } from "@connectrpc/connect";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ads, core, encoded } from "@tulle/api";
import { messageOf } from "@tulle/base";
import { ResourceCache, type ResourceSource } from "./resource-cache.ts";
import type { TypeView } from "./resource-view.ts";
import { Signal } from "./signal.ts";
import { ServerSubscription } from "./subscription.ts";

/** Who is on the other end of a stream. */
export interface XdsPeer<P = unknown> {
  /** What authentication has shown. */
  readonly principal: P;
  readonly node: core.Node;
}

/** A type that a server serves. */
export interface XdsType {
  readonly typeUrl: string;
  /** Everybody gets everything (Authorization). Default false. */
  readonly alwaysWildcard?: boolean;
  /**
   * Keys that an on-demand client is subscribed to unasked: `node:<name>` gives a proxy its own workloads. Only clients
   * that may have everything get them: what a peer says of its node is shown to be true for these alone.
   */
  readonly impliedKeys?: (peer: XdsPeer) => readonly string[];
  /** Keys that nobody may ask for: in requests they are passed over. Default: none. */
  readonly isInternal?: (key: string) => boolean;
  readonly view?: TypeView;
}

/** A served type, what is served of it, and how far streams were told of it. */
export interface ServedType {
  readonly type: XdsType;
  readonly cache: ResourceSource;
  /** The cache's sequence at the last time that streams were told of changes. */
  told: number;
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
  /** Milliseconds since the epoch of the last acknowledgement; 0 before the first. */
  readonly ackedAt: number;
  /** The last refusal, unless something was accepted since. */
  readonly error: string | undefined;
  readonly wildcard: boolean;
}

/** A response that was acknowledged, or refused. */
export interface Ack {
  readonly typeUrl: string;
  /** From the change of the cache that the response was made for (or from the request) to here. */
  readonly tookMs: number;
  readonly accepted: boolean;
}

/** Responses that belong together, and were handed to the transport. */
export interface Push {
  readonly typeUrl: string;
  /** From the change of the cache (or the request) until the responses were begun: the client had others to acknowledge. */
  readonly queuedMs: number;
  /** Making them, until the transport has taken the last one. */
  readonly tookMs: number;
}

export interface StreamOptions {
  readonly types: ReadonlyMap<string, ServedType>;
  readonly peer: XdsPeer;
  /** Whether the client may subscribe to everything of a type; one that does without is left with PERMISSION_DENIED. */
  readonly wildcard: boolean;
  readonly onNack: (nack: Nack) => void;
  readonly onAck?: (ack: Ack) => void;
  /** A response with something in it was handed to the transport. */
  readonly onSent?: (typeUrl: string, bytes: number) => void;
  readonly onPushed?: (push: Push) => void;
  readonly ackTimeoutMs: number;
  /** Names the state that is sent: `system_version_info`. */
  readonly version: () => string;
}

type Response = MessageInitShape<typeof encoded.EncodedDeltaDiscoveryResponseSchema>;

interface Unacked {
  readonly nonce: string;
  /** Every change up to this one of the cache's sequence is in it, or in one before. */
  readonly position: number;
  /** When there was something to send. */
  readonly dueSince: number;
}

interface TypeState {
  readonly typeUrl: string;
  readonly subscription: ServerSubscription;
  /** Undefined: a type that is not served. */
  readonly served: ServedType | undefined;
  /** Responses that were not acknowledged, oldest first. */
  readonly unacked: Unacked[];
  /** When the oldest of them was sent. */
  waitingSince: number;
  /** When the first change or request came that nothing was sent for yet; 0: there is none. */
  dueSince: number;
  sentNonce: string;
  ackedNonce: string;
  ackedAt: number;
  /** The position of the last response that was accepted. */
  acked: number;
  /** The last response that was refused, whatever was accepted since. */
  refused: { readonly position: number; readonly message: string } | undefined;
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
    return [...this.#states.values()].map(({ typeUrl, sentNonce, ackedNonce, ackedAt, error, subscription }) => ({
      typeUrl,
      sentNonce,
      ackedNonce,
      ackedAt,
      error,
      wildcard: subscription.wildcard,
    }));
  }

  /**
   * Whether the client holds, of a type, the state at a position of its cache or a later one. A client that has not asked
   * for the type may still hold an old state of it: no. `name`: a refusal of this resource counts as not holding it.
   */
  holds(typeUrl: string, position: number, name?: string): boolean {
    const state = this.#states.get(typeUrl);
    if (state === undefined) return false;
    const { refused, unacked, subscription, served } = state;
    if (refused !== undefined && refused.position >= position && name !== undefined) {
      if (refused.message.includes(name)) return false;
    }
    if (state.acked >= position) return true;
    const idle = unacked.length === 0 && !subscription.hasChanges && !subscription.answerDue;
    return idle && served !== undefined && served.told >= position;
  }

  /** What the cache has changed. */
  changed(typeUrl: string, names: ReadonlyMap<string, number>): void {
    const state = this.#states.get(typeUrl);
    if (state === undefined) return;
    const { subscription } = state;
    subscription.changed(names);
    if (!subscription.hasChanges) return;
    if (state.dueSince === 0) state.dueSince = performance.now();
    this.#work.raise();
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
      this.#checkWildcard(state);
      if (state.subscription.answerDue && state.dueSince === 0) state.dueSince = performance.now();
    }
    this.#work.raise();
  }

  #open(request: ads.DeltaDiscoveryRequest): void {
    const { typeUrl } = request;
    if (this.#states.size >= MAX_TYPES) throw new RangeError(`more than ${MAX_TYPES} resource types on one stream`);
    // A type that is not served is answered as empty: a client waits for one answer for each.
    const served = this.#options.types.get(typeUrl);
    const { type, cache } = served ?? { type: unserved(typeUrl), cache: new ResourceCache(typeUrl) };
    const options = {
      alwaysWildcard: type.alwaysWildcard ?? false,
      impliedKeys: this.#options.wildcard ? (type.impliedKeys?.(this.#options.peer) ?? []) : [],
      ...(type.isInternal && { isInternal: type.isInternal }),
    };
    const subscription = new ServerSubscription(cache, options, request);
    const fresh: TypeState = {
      typeUrl,
      subscription,
      served,
      unacked: [],
      waitingSince: 0,
      dueSince: performance.now(),
      sentNonce: "",
      ackedNonce: "",
      ackedAt: 0,
      acked: -1,
      refused: undefined,
      error: undefined,
    };
    this.#states.set(typeUrl, fresh);
    this.#checkWildcard(fresh);
  }

  #checkWildcard({ typeUrl, subscription }: TypeState): void {
    if (this.#options.wildcard || !subscription.wildcard) return;
    this.end(new ConnectError(`${typeUrl}: not everything of it, only what is named`, Code.PermissionDenied));
  }

  #onAck(state: TypeState, request: ads.DeltaDiscoveryRequest): void {
    const place = state.unacked.findIndex(({ nonce }) => nonce === request.responseNonce);
    const answered = state.unacked[place];
    // Stale or invented: it acknowledges nothing.
    if (answered === undefined) return;
    state.unacked.splice(0, place + 1);
    state.waitingSince = performance.now();
    state.ackedNonce = request.responseNonce;
    state.ackedAt = Date.now();
    state.error = request.errorDetail?.message;
    const { typeUrl } = state;
    const { position } = answered;
    // What was refused is refused by name; the rest of the response was taken in.
    state.acked = Math.max(state.acked, position);
    if (request.errorDetail !== undefined) {
      const { message } = request.errorDetail;
      state.refused = { position, message };
      this.#options.onNack({ typeUrl, nonce: request.responseNonce, message });
    }
    const accepted = request.errorDetail === undefined;
    this.#options.onAck?.({ typeUrl, tookMs: performance.now() - answered.dueSince, accepted });
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
    const begin = performance.now();
    const due = state.subscription.answerDue;
    const { resources, removed } = state.subscription.take();
    const { typeUrl, served, dueSince } = state;
    state.dueSince = 0;
    if (!due && resources.length === 0 && removed.length === 0) return;
    const parts = split(resources);
    for (const [index, part] of parts.entries()) {
      const nonce = `${this.#options.version()}.${++this.#nonces}`;
      if (state.unacked.length === 0) state.waitingSince = performance.now();
      // Only with the last part does the client hold the whole.
      const position = index === parts.length - 1 ? (served?.told ?? 0) : -1;
      state.unacked.push({ nonce, position, dueSince });
      state.sentNonce = nonce;
      this.#options.onSent?.(
        typeUrl,
        part.reduce((sum, { length }) => sum + length, 0),
      );
      yield {
        systemVersionInfo: this.#options.version(),
        typeUrl,
        nonce,
        resources: part,
        removedResources: removed.splice(0),
      };
    }
    // The transport asks for the next one when it has taken this one.
    this.#options.onPushed?.({ typeUrl, queuedMs: begin - dueSince, tookMs: performance.now() - begin });
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

function unserved(typeUrl: string): XdsType {
  return { typeUrl };
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
