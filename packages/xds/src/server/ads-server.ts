import type { DescMethodBiDiStreaming } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { ads, encoded } from "@tulle/api";
import { type Log, messageOf, type Random } from "@tulle/base";
import { ResourceCache, type ResourceUpdate } from "./resource-cache.ts";
import { ResourceView } from "./resource-view.ts";
import {
  type Ack,
  AdsStream,
  type Nack,
  type Push,
  type ServedType,
  type TypeStatus,
  type XdsPeer,
  type XdsType,
} from "./stream.ts";

/** `reason` is for the log: a client never sees it. */
export type XdsRefusal = { readonly ok: false; readonly reason: string };

export interface XdsAdmission {
  readonly ok: true;
  /** Whether the client may subscribe to everything of a type. Default true. */
  readonly wildcard?: boolean;
}

/** What happens to streams, for metrics. */
export interface AdsObserver {
  onSent?(typeUrl: string, bytes: number): void;
  onPushed?(push: Push): void;
  onAck?(peer: XdsPeer, ack: Ack): void;
  /** A stream has opened or ended: `streams` are open now. */
  onStreams?(streams: number): void;
  onRefused?(code: "UNAUTHENTICATED" | "PERMISSION_DENIED" | "RESOURCE_EXHAUSTED" | "UNAVAILABLE"): void;
}

/** `P`: what authentication shows of a client. */
export interface AdsServerOptions<P = string> {
  /** In the order in which they are sent. */
  readonly types: readonly XdsType[];
  readonly log: Log;
  /** Who opens a stream; before anything is read from it. */
  readonly authenticate: (
    context: HandlerContext,
  ) => Promise<{ readonly ok: true; readonly principal: P } | XdsRefusal>;
  /** Whether this principal may speak for this node. Default: yes. */
  readonly authorize?: (peer: XdsPeer<P>) => Promise<XdsAdmission | XdsRefusal>;
  /** The principal in a line of the log. Default: String(principal). */
  readonly describe?: (principal: P) => string;
  /** A stream that is opened before this resolves waits; when it takes over 10 s, it is told to come again. Default: at once. */
  readonly ready?: () => Promise<void>;
  /** Changes are gathered for this long from the first one on. 0: the caller gathers. Default and maximum 10 ms. */
  readonly batchWindowMs?: number;
  /** A client that has not acknowledged a response for so long is left. Default 60 s. */
  readonly ackTimeoutMs?: number;
  readonly maxStreams?: number;
  /** A stream is ended after this, so that its client proves anew who it is; ± 10 %. Default: never. */
  readonly maxStreamAgeMs?: number;
  readonly random?: Random;
  readonly onNack?: (peer: XdsPeer<P>, nack: Nack) => void;
  readonly observer?: AdsObserver;
}

export interface XdsClientStatus<P = string> {
  readonly peer: XdsPeer<P>;
  readonly types: readonly TypeStatus[];
  /** Milliseconds since the epoch. */
  readonly connectedAt: number;
}

/** A policy that was edited should hold at once; yet a deployment's pods come in bursts. */
const MAX_BATCH_WINDOW_MS = 10;
const ACK_TIMEOUT_MS = 60_000;
const MAX_STREAMS = 10_000;
/** From the opening of a stream to its first request. */
const FIRST_REQUEST_TIMEOUT_MS = 10_000;
/** How long an opened stream waits for a server that has only just started. */
const READY_TIMEOUT_MS = 10_000;
/** Clients that came together shall not leave together. */
const AGE_JITTER = 0.1;

/**
 * Delta ADS for any number of types: the caller says what changed, each client is sent what it wants of it, in the
 * encoding that was made once. Mount it with `register`. Spec: control-plane §3.
 */
export class AdsServer<P = string> {
  readonly #options: AdsServerOptions<P>;
  readonly #types = new Map<string, ServedType>();
  readonly #caches = new Map<string, ResourceCache>();
  readonly #views = new Map<string, ResourceView>();
  readonly #streams = new Map<AdsStream, XdsClientStatus<P>>();
  /** Changed names that no stream was told of yet, by type. */
  #batch = new Map<string, Map<string, number>>();
  #timer: NodeJS.Timeout | undefined;
  #version = 0;
  /** Streams, those that have not said who they are included. */
  #open = 0;
  #closed = false;

  constructor(options: AdsServerOptions<P>) {
    this.#options = options;
    for (const { typeUrl, view } of options.types) {
      if (view === undefined) this.#caches.set(typeUrl, new ResourceCache(typeUrl));
    }
    for (const type of options.types) {
      const { typeUrl, view } = type;
      if (view !== undefined) this.#views.set(typeUrl, new ResourceView(typeUrl, view, this.cache(view.of)));
      this.#types.set(typeUrl, { type, cache: this.#views.get(typeUrl) ?? this.cache(typeUrl), told: 0 });
    }
  }

  register(router: ConnectRouter): void {
    router.rpc(METHOD, (requests, context) => this.#serve(requests, context));
  }

  /** Takes in changed and removed resources of a type; what is the same as before is sent to nobody. */
  update(typeUrl: string, change: ResourceUpdate): void {
    const names = this.cache(typeUrl).update(change);
    if (names.size === 0) return;
    const batch = this.#batch.get(typeUrl);
    if (batch === undefined) this.#batch.set(typeUrl, names);
    else for (const [name, sequence] of names) batch.set(name, sequence);
    const wait = Math.min(this.#options.batchWindowMs ?? MAX_BATCH_WINDOW_MS, MAX_BATCH_WINDOW_MS);
    if (wait === 0) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), wait);
  }

  /** What is served of a type. Throws Error for a type that is not. */
  cache(typeUrl: string): ResourceCache {
    const cache = this.#caches.get(typeUrl);
    if (cache === undefined) throw new Error(`${typeUrl} is not served`);
    return cache;
  }

  clients(): XdsClientStatus<P>[] {
    return [...this.#streams].map(([stream, status]) => ({ ...status, types: stream.status() }));
  }

  /**
   * The clients that do not hold a type's state at a position of its cache (`cache(typeUrl).sequence`) or a later one: those
   * that have not acknowledged it, and those that have connected and not acknowledged anything yet. `name`: a client that
   * has refused this resource does not hold it.
   */
  behind(typeUrl: string, position: number, name?: string): XdsPeer<P>[] {
    const behind: XdsPeer<P>[] = [];
    for (const [stream, { peer }] of this.#streams) if (!stream.holds(typeUrl, position, name)) behind.push(peer);
    return behind;
  }

  /** Ends the streams of these clients; what they are told is not why. */
  disconnect(which: (peer: XdsPeer<P>) => boolean, reason: string): void {
    for (const [stream, { peer }] of this.#streams) {
      if (!which(peer)) continue;
      this.#options.log.info("discovery stream ended by the server", { node: peer.node.id, reason });
      stream.end(new ConnectError("authenticate anew", Code.Unauthenticated));
    }
  }

  /** Ends every stream; the clients will come back. New ones are refused. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const stream of this.#streams.keys()) stream.end(goingAway());
  }

  #flush(): void {
    this.#timer = undefined;
    this.#version++;
    const batch = this.#batch;
    this.#batch = new Map();
    for (const [typeUrl, view] of this.#views) {
      const names = batch.get(this.#types.get(typeUrl)?.type.view?.of ?? "");
      if (names !== undefined) batch.set(typeUrl, new Map(view.select(names)));
    }
    for (const served of this.#types.values()) served.told = served.cache.sequence;
    for (const stream of this.#streams.keys()) {
      for (const [typeUrl, names] of batch) stream.changed(typeUrl, names);
    }
  }

  async *#serve(requests: AsyncIterable<ads.DeltaDiscoveryRequest>, context: HandlerContext) {
    if (this.#closed) throw goingAway();
    if (this.#open >= (this.#options.maxStreams ?? MAX_STREAMS)) {
      this.#options.observer?.onRefused?.("RESOURCE_EXHAUSTED");
      throw new ConnectError("too many discovery streams", Code.ResourceExhausted);
    }
    this.#open++;
    try {
      yield* this.#follow(requests, context);
    } finally {
      this.#open--;
    }
  }

  async *#follow(requests: AsyncIterable<ads.DeltaDiscoveryRequest>, context: HandlerContext) {
    await this.#ready();
    const principal = await this.#authenticate(context);
    const rest = requests[Symbol.asyncIterator]();
    const first = await firstOf(rest);
    const { peer, wildcard } = await this.#authorize(principal, first);
    // It came while the server was ending.
    if (this.#closed) throw goingAway();
    const { log, observer, ackTimeoutMs = ACK_TIMEOUT_MS } = this.#options;
    const stream = new AdsStream({
      types: this.#types,
      peer,
      wildcard,
      version: () => `${this.#version}`,
      ackTimeoutMs,
      onNack: (nack) => this.#onNack(peer, nack),
      onAck: (ack) => observer?.onAck?.(peer, ack),
      onSent: (typeUrl, bytes) => observer?.onSent?.(typeUrl, bytes),
      onPushed: (push) => observer?.onPushed?.(push),
    });
    this.#streams.set(stream, { peer, types: [], connectedAt: Date.now() });
    const onAbort = () => stream.end();
    context.signal.addEventListener("abort", onAbort, { once: true });
    if (context.signal.aborted) stream.end();
    const age = this.#age(stream);
    const fields = { node: peer.node.id, principal: this.#describe(principal) };
    log.info("discovery stream opened", fields);
    observer?.onStreams?.(this.#streams.size);
    try {
      void stream.read(first, rest);
      yield* stream.responses();
    } catch (error) {
      log.warn("discovery stream failed", { ...fields, error: messageOf(error) });
      throw error;
    } finally {
      clearTimeout(age);
      context.signal.removeEventListener("abort", onAbort);
      this.#streams.delete(stream);
      log.info("discovery stream closed", fields);
      observer?.onStreams?.(this.#streams.size);
    }
  }

  async #ready(): Promise<void> {
    const ready = this.#options.ready?.();
    if (ready === undefined) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(() => resolve("late"), READY_TIMEOUT_MS);
    });
    const outcome = await Promise.race([ready, late]);
    clearTimeout(timer);
    if (outcome !== "late") return;
    this.#options.observer?.onRefused?.("UNAVAILABLE");
    throw new ConnectError("the control plane does not know the mesh yet", Code.Unavailable);
  }

  /** Ends the stream in the ordinary way when it is old: the client comes back at once, with what it holds. */
  #age(stream: AdsStream): NodeJS.Timeout | undefined {
    const { maxStreamAgeMs, random = Math.random } = this.#options;
    if (maxStreamAgeMs === undefined) return undefined;
    const timer = setTimeout(() => stream.end(), maxStreamAgeMs * (1 + AGE_JITTER * (2 * random() - 1)));
    timer.unref();
    return timer;
  }

  #describe(principal: P): string {
    return this.#options.describe?.(principal) ?? String(principal);
  }

  async #authenticate(context: HandlerContext): Promise<P> {
    const { log, observer } = this.#options;
    const result = await this.#options
      .authenticate(context)
      .catch((error: unknown): XdsRefusal => ({ ok: false, reason: messageOf(error) }));
    if (result.ok) return result.principal;
    log.warn("discovery stream refused", { reason: result.reason });
    observer?.onRefused?.("UNAUTHENTICATED");
    throw new ConnectError("authentication failure", Code.Unauthenticated);
  }

  async #authorize(principal: P, first: ads.DeltaDiscoveryRequest) {
    const { node } = first;
    if (node === undefined || node.id === "") throw new ConnectError("missing node ID", Code.InvalidArgument);
    const peer: XdsPeer<P> = { principal, node };
    const { log, observer, authorize } = this.#options;
    const result: XdsAdmission | XdsRefusal = await (authorize?.(peer) ?? Promise.resolve(ADMITTED)).catch(
      (error: unknown): XdsRefusal => ({ ok: false, reason: messageOf(error) }),
    );
    if (result.ok) return { peer, wildcard: result.wildcard ?? true };
    const fields = { node: node.id, principal: this.#describe(principal), reason: result.reason };
    log.warn("discovery stream refused", fields);
    observer?.onRefused?.("PERMISSION_DENIED");
    throw new ConnectError("authorization failure", Code.PermissionDenied);
  }

  #onNack(peer: XdsPeer<P>, nack: Nack): void {
    const { typeUrl, message } = nack;
    this.#options.log.warn("a client refused resources", { node: peer.node.id, typeUrl, error: message });
    this.#options.onNack?.(peer, nack);
  }
}

const ADMITTED: XdsAdmission = { ok: true };

function goingAway(): ConnectError {
  return new ConnectError("the control plane is going away", Code.Unavailable);
}

/** The same call on the wire, with responses whose resources are encoded already. */
const METHOD: DescMethodBiDiStreaming<
  typeof ads.DeltaDiscoveryRequestSchema,
  typeof encoded.EncodedDeltaDiscoveryResponseSchema
> = {
  ...ads.AggregatedDiscoveryService.method.deltaAggregatedResources,
  output: encoded.EncodedDeltaDiscoveryResponseSchema,
};

async function firstOf(requests: AsyncIterator<ads.DeltaDiscoveryRequest>): Promise<ads.DeltaDiscoveryRequest> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new ConnectError("no request came", Code.DeadlineExceeded);
    timer = setTimeout(() => reject(error), FIRST_REQUEST_TIMEOUT_MS);
  });
  try {
    const first = await Promise.race([requests.next(), late]);
    if (first.done === true) throw new ConnectError("the stream ended before its first request", Code.InvalidArgument);
    return first.value;
  } finally {
    clearTimeout(timer);
  }
}
