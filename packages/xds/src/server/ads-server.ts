import type { DescMethodBiDiStreaming } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { ads, encoded } from "@tulle/api";
import { type Log, messageOf } from "@tulle/base";
import { ResourceCache, type ResourceUpdate } from "./resource-cache.ts";
import { AdsStream, type Nack, type TypeStatus, type XdsPeer, type XdsType } from "./stream.ts";

/** `reason` is for the log: a client never sees it. */
export type XdsRefusal = { readonly ok: false; readonly reason: string };

export interface AdsServerOptions {
  /** In the order in which they are sent. */
  readonly types: readonly XdsType[];
  readonly log: Log;
  /** Who opens a stream; before anything is read from it. */
  readonly authenticate: (
    context: HandlerContext,
  ) => Promise<{ readonly ok: true; readonly principal: string } | XdsRefusal>;
  /** Whether this principal may speak for this node. Default: yes. */
  readonly authorize?: (peer: XdsPeer) => Promise<{ readonly ok: true } | XdsRefusal>;
  /** Changes are gathered for this long from the first one on. Default and maximum 10 ms. */
  readonly batchWindowMs?: number;
  /** A client that has not acknowledged a response for so long is left. Default 60 s. */
  readonly ackTimeoutMs?: number;
  readonly maxStreams?: number;
  readonly onNack?: (peer: XdsPeer, nack: Nack) => void;
}

export interface XdsClientStatus {
  readonly peer: XdsPeer;
  readonly types: readonly TypeStatus[];
}

/** A policy that was edited should hold at once; yet a deployment's pods come in bursts. */
const MAX_BATCH_WINDOW_MS = 10;
const ACK_TIMEOUT_MS = 60_000;
const MAX_STREAMS = 10_000;
/** From the opening of a stream to its first request. */
const FIRST_REQUEST_TIMEOUT_MS = 10_000;

/**
 * Delta ADS for any number of types: the caller says what changed, each client is sent what it wants of it, in the
 * encoding that was made once. Mount it with `register`. Spec: control-plane §3.
 */
export class AdsServer {
  readonly #options: AdsServerOptions;
  readonly #types: ReadonlyMap<string, { readonly type: XdsType; readonly cache: ResourceCache }>;
  readonly #streams = new Set<AdsStream>();
  /** Changed names that no stream was told of yet, by type. */
  #batch = new Map<string, Map<string, number>>();
  #timer: NodeJS.Timeout | undefined;
  #version = 0;
  /** Streams, those that have not said who they are included. */
  #open = 0;

  constructor(options: AdsServerOptions) {
    this.#options = options;
    this.#types = new Map(
      options.types.map((type) => [type.typeUrl, { type, cache: new ResourceCache(type.typeUrl) }]),
    );
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
    this.#timer ??= setTimeout(() => this.#flush(), wait);
  }

  /** What is served of a type. Throws Error for a type that is not. */
  cache(typeUrl: string): ResourceCache {
    const served = this.#types.get(typeUrl);
    if (served === undefined) throw new Error(`${typeUrl} is not served`);
    return served.cache;
  }

  clients(): XdsClientStatus[] {
    return [...this.#streams].map((stream) => ({ peer: stream.peer, types: stream.status() }));
  }

  /** Ends every stream; the clients will come back. */
  close(): void {
    clearTimeout(this.#timer);
    for (const stream of this.#streams)
      stream.end(new ConnectError("the control plane is going away", Code.Unavailable));
  }

  #flush(): void {
    this.#timer = undefined;
    this.#version++;
    const batch = this.#batch;
    this.#batch = new Map();
    for (const stream of this.#streams) for (const [typeUrl, names] of batch) stream.changed(typeUrl, names);
  }

  async *#serve(requests: AsyncIterable<ads.DeltaDiscoveryRequest>, context: HandlerContext) {
    if (this.#open >= (this.#options.maxStreams ?? MAX_STREAMS)) {
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
    const principal = await this.#authenticate(context);
    const rest = requests[Symbol.asyncIterator]();
    const first = await firstOf(rest);
    const peer = await this.#authorize(principal, first);
    const stream = new AdsStream({
      types: this.#types,
      peer,
      version: () => `${this.#version}`,
      ackTimeoutMs: this.#options.ackTimeoutMs ?? ACK_TIMEOUT_MS,
      onNack: (nack) => this.#onNack(peer, nack),
    });
    this.#streams.add(stream);
    const onAbort = () => stream.end();
    context.signal.addEventListener("abort", onAbort, { once: true });
    if (context.signal.aborted) stream.end();
    const fields = { node: peer.node.id, principal };
    this.#options.log.info("discovery stream opened", fields);
    try {
      void stream.read(first, rest);
      yield* stream.responses();
    } catch (error) {
      this.#options.log.warn("discovery stream failed", { ...fields, error: messageOf(error) });
      throw error;
    } finally {
      context.signal.removeEventListener("abort", onAbort);
      this.#streams.delete(stream);
      this.#options.log.info("discovery stream closed", fields);
    }
  }

  async #authenticate(context: HandlerContext): Promise<string> {
    const result = await this.#options
      .authenticate(context)
      .catch((error: unknown): XdsRefusal => ({ ok: false, reason: messageOf(error) }));
    if (result.ok) return result.principal;
    this.#options.log.warn("discovery stream refused", { reason: result.reason });
    throw new ConnectError("authentication failure", Code.Unauthenticated);
  }

  async #authorize(principal: string, first: ads.DeltaDiscoveryRequest): Promise<XdsPeer> {
    const { node } = first;
    if (node === undefined || node.id === "") throw new ConnectError("missing node ID", Code.InvalidArgument);
    const peer = { principal, node };
    const result = await this.#options
      .authorize?.(peer)
      .catch((error: unknown): XdsRefusal => ({ ok: false, reason: messageOf(error) }));
    if (result === undefined || result.ok) return peer;
    this.#options.log.warn("discovery stream refused", { node: node.id, principal, reason: result.reason });
    throw new ConnectError("authorization failure", Code.PermissionDenied);
  }

  #onNack(peer: XdsPeer, nack: Nack): void {
    const { typeUrl, message } = nack;
    this.#options.log.warn("a client refused resources", { node: peer.node.id, typeUrl, error: message });
    this.#options.onNack?.(peer, nack);
  }
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
