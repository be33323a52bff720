import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import { ads } from "@tulle/api";
import { type Log, messageOf, type Random, sleep as realSleep } from "@tulle/base";
import { ClientType, type Rejection, type XdsResource, type XdsTypeHandler, type XdsUpdate } from "./client-type.ts";
import type { XdsNode } from "./node.ts";
import { ReconnectPolicy, type StreamEnd, type TerminationReason } from "./reconnect.ts";
import { RequestQueue } from "./request-queue.ts";

/** A connection to a control plane; `openGrpcChannel` of packages/pki makes one. */
export interface XdsChannel {
  readonly transport: Transport;
  close(): void;
}

export interface XdsClientMetrics {
  onTermination?(reason: TerminationReason): void;
  /** `bytes`: of the resources' payloads. */
  onMessage?(typeUrl: string, bytes: number): void;
}

export interface XdsClientOptions {
  /** Called for each connection, so that roots and token are read anew. */
  readonly open: () => Promise<XdsChannel>;
  readonly node: XdsNode;
  /** In the order in which their first requests are sent. */
  readonly types: readonly XdsTypeHandler[];
  readonly log: Log;
  readonly metrics?: XdsClientMetrics;
  /** The stream is up (the server has accepted it) or lost. */
  readonly onConnected?: (connected: boolean) => void;
  readonly sleep?: typeof realSleep;
  /** Spreads the waits between two tries to connect. */
  readonly random?: Random;
}

type Request = MessageInitShape<typeof ads.DeltaDiscoveryRequestSchema>;

/** Acknowledgements that the transport has not taken yet; a server that does not read for so long is left. */
const MAX_WAITING_REQUESTS = 10_000;

/**
 * Delta ADS (spec: l4-ztunnel §5.4): one stream for all types, each resource accepted or refused by itself, what is held
 * kept over a loss of the connection and named when it is made anew.
 */
export class XdsClient {
  readonly #options: XdsClientOptions;
  readonly #types: ReadonlyMap<string, ClientType>;
  readonly #ready = Promise.withResolvers<void>();
  #requests: RequestQueue<Request> | undefined;
  #flushing = false;
  #isReady = false;

  constructor(options: XdsClientOptions) {
    this.#options = options;
    this.#types = new Map(options.types.map((handler) => [handler.typeUrl, new ClientType(handler)]));
    this.#checkReady();
  }

  /** Whether a response of every wildcard type was accepted; stays true. */
  get ready(): boolean {
    return this.#isReady;
  }

  whenReady(): Promise<void> {
    return this.#ready.promise;
  }

  /** Keeps a stream open until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { log, metrics, sleep = realSleep, random } = this.#options;
    const policy = new ReconnectPolicy(random);
    while (!signal.aborted) {
      const end = await this.#stream(signal);
      if (signal.aborted) return;
      const { waitMs, reason } = policy.after(end);
      metrics?.onTermination?.(reason);
      const error = end.error === undefined ? undefined : messageOf(end.error);
      log.warn("xDS stream ended", { reason, error, retryMs: Math.round(waitMs) });
      if (waitMs > 0) await sleep(waitMs, signal);
    }
  }

  /**
   * Asks for a resource of an on-demand type, by name or alias. Resolves when the server has answered and the answer was
   * applied: look it up then. Throws Error for another type.
   */
  demand(typeUrl: string, name: string): Promise<void> {
    const type = this.#types.get(typeUrl);
    if (type === undefined || type.wildcard) throw new Error(`${typeUrl} is not subscribed to on demand`);
    const answer = type.demand(name);
    this.#flushSoon();
    return answer;
  }

  /** Resources held, by type: for diagnosis. */
  held(): ReadonlyMap<string, number> {
    return new Map([...this.#types].map(([url, type]) => [url, type.size]));
  }

  async #stream(signal: AbortSignal): Promise<StreamEnd> {
    let connected = false;
    let answered = false;
    let channel: XdsChannel | undefined;
    const ended = new AbortController();
    const requests = new RequestQueue<Request>(MAX_WAITING_REQUESTS);
    try {
      channel = await this.#options.open();
      const { createClient } = await import("@connectrpc/connect");
      const client = createClient(ads.AggregatedDiscoveryService, channel.transport);
      this.#requests = requests;
      for (const type of this.#types.values()) requests.push(this.#firstRequest(type));
      const onHeader = () => {
        connected = true;
        this.#options.onConnected?.(true);
      };
      const responses = client.deltaAggregatedResources(requests, {
        signal: AbortSignal.any([signal, ended.signal]),
        onHeader,
      });
      for await (const response of responses) {
        answered = true;
        requests.push(await this.#onResponse(response));
      }
      return { error: undefined, connected, answered };
    } catch (error) {
      return { error, connected, answered };
    } finally {
      this.#requests = undefined;
      requests.end();
      ended.abort();
      channel?.close();
      if (connected) this.#options.onConnected?.(false);
    }
  }

  #firstRequest(type: ClientType): Request {
    const { id, metadata } = this.#options.node;
    return { node: { id, metadata }, typeUrl: type.handler.typeUrl, ...type.firstSubscription() };
  }

  /** Applies a response; returns its acknowledgement. */
  async #onResponse(response: ads.DeltaDiscoveryResponse): Promise<Request> {
    const { typeUrl, nonce } = response;
    const { log, metrics } = this.#options;
    const ack = { typeUrl, responseNonce: nonce };
    const type = this.#types.get(typeUrl);
    const update: XdsUpdate = { resources: response.resources.map(resourceOf), removed: response.removedResources };
    const bytes = update.resources.reduce((sum, resource) => sum + resource.bytes.length, 0);
    metrics?.onMessage?.(typeUrl, bytes);
    if (type === undefined) {
      log.error("the control plane sent resources that nobody asked for", { typeUrl });
      return ack;
    }
    const rejections = await apply(type.handler, update);
    type.record(update, rejections);
    type.answer(namesIn(response));
    log.debug("xDS response", { typeUrl, resources: update.resources.length, removed: update.removed.length, bytes });
    if (rejections.length === 0) {
      type.accepted = true;
      this.#checkReady();
      return ack;
    }
    const message = rejections.map(({ name, reason }) => `${name}: ${reason}`).join("; ");
    log.error("resources refused", { typeUrl, error: message });
    // Code 0 is what ztunnel sends; a server tells a refusal by the presence of error_detail.
    return { ...ack, errorDetail: { code: 0, message } };
  }

  #checkReady(): void {
    if (this.#isReady || [...this.#types.values()].some((type) => type.wildcard && !type.accepted)) return;
    this.#isReady = true;
    this.#ready.resolve();
  }

  /** One request for all that is asked for in this turn of the event loop. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      const requests = this.#requests;
      // Without a stream they go with its first request.
      if (requests === undefined) return;
      for (const [typeUrl, type] of this.#types) {
        const names = type.takeUnsent();
        if (names.length > 0) requests.push({ typeUrl, resourceNamesSubscribe: names });
      }
    });
  }
}

async function apply(handler: XdsTypeHandler, update: XdsUpdate): Promise<readonly Rejection[]> {
  try {
    return await handler.apply(update);
  } catch (error) {
    const reason = messageOf(error);
    return [...update.resources.map(({ name }) => name), ...update.removed].map((name) => ({ name, reason }));
  }
}

function resourceOf(resource: ads.Resource): XdsResource {
  const { name, version } = resource;
  return {
    name,
    version,
    typeUrl: resource.resource?.typeUrl ?? "",
    bytes: resource.resource?.value ?? new Uint8Array(),
  };
}

function* namesIn(response: ads.DeltaDiscoveryResponse): Generator<string> {
  for (const { name, aliases } of response.resources) {
    yield name;
    yield* aliases;
  }
  yield* response.removedResources;
}
