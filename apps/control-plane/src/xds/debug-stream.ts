import { create } from "@bufbuild/protobuf";
import { anyPack, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { ads, csds } from "@tulle/api";
import type { Log } from "@tulle/base";
import { credentialsOf, grpcPeer } from "@tulle/pki";
import { nodeMetadata, type TypeStatus, type XdsClientStatus } from "@tulle/xds";
import { type Authenticator, authenticateCall, type Caller, describeCaller } from "../auth/authenticator.ts";
import { contradiction } from "./admission.ts";
import { parseProxyNode } from "./proxy-node.ts";

export interface DebugStreamOptions {
  readonly authenticator: Authenticator;
  readonly clusterId: string;
  /** Whose callers see every proxy; others see those of their own namespace. */
  readonly namespaces: ReadonlySet<string>;
  readonly clients: () => readonly XdsClientStatus<Caller>[];
  /** `istioctl proxy-status` shows them. */
  readonly podName: string;
  readonly version: string;
  readonly log: Log;
}

const SYNCZ = "istio.io/debug/syncz";
/** A tool asks once and goes. */
const MAX_STREAMS = 50;
const MAX_AGE_MS = 60_000;

/**
 * Discovery of whole states, as far as `istioctl proxy-status` asks for it (control-plane.md §8.7): which proxies are
 * connected here, and how far each of them is. Proxies use the incremental half.
 */
export class DebugStream {
  readonly #options: DebugStreamOptions;
  #open = 0;
  #nonces = 0;

  constructor(options: DebugStreamOptions) {
    this.#options = options;
  }

  register(router: ConnectRouter): void {
    router.rpc(ads.AggregatedDiscoveryService.method.streamAggregatedResources, (requests, context) =>
      this.#serve(requests, context),
    );
  }

  async *#serve(requests: AsyncIterable<ads.DiscoveryRequest>, context: HandlerContext) {
    if (this.#open >= MAX_STREAMS) throw new ConnectError("too many debug streams", Code.ResourceExhausted);
    this.#open++;
    const rest = requests[Symbol.asyncIterator]();
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<{ readonly done: true; readonly value: undefined }>((resolve) => {
      timer = setTimeout(() => resolve({ done: true, value: undefined }), MAX_AGE_MS);
    });
    try {
      const caller = await this.#authenticate(context);
      let known = false;
      for (;;) {
        const next = await Promise.race([rest.next(), over]);
        if (next.done === true) return;
        // The node stands in the first request only; an acknowledgement wants no answer.
        if (!known) this.#authorize(caller, next.value);
        known = true;
        if (next.value.responseNonce === "") yield this.#answer(caller, next.value);
      }
    } finally {
      clearTimeout(timer);
      this.#open--;
    }
  }

  async #authenticate(context: HandlerContext): Promise<Caller> {
    const { token, clusterId } = credentialsOf(context);
    const result = await authenticateCall({ token, clusterId }, this.#options);
    if (result.ok) {
      grpcPeer(context).authenticated?.();
      return result.caller;
    }
    this.#options.log.warn("debug stream refused", { reason: result.reason });
    throw new ConnectError("authentication failure", Code.Unauthenticated);
  }

  #authorize(caller: Caller, { node }: ads.DiscoveryRequest): void {
    if (node === undefined || node.id === "") throw new ConnectError("missing node ID", Code.InvalidArgument);
    const parsed = parseProxyNode(node);
    const problem = typeof parsed === "string" ? parsed : contradiction(caller, parsed);
    if (problem === undefined) return;
    this.#options.log.warn("debug stream refused", { principal: describeCaller(caller), reason: problem });
    throw new ConnectError("authorization failure", Code.PermissionDenied);
  }

  #answer(caller: Caller, { typeUrl }: ads.DiscoveryRequest) {
    const { clients, namespaces, podName, version } = this.#options;
    if (typeUrl !== SYNCZ) {
      throw new ConnectError(
        `${typeUrl}: only ${SYNCZ} is served here, proxies use delta discovery`,
        Code.Unimplemented,
      );
    }
    const seesAll = namespaces.has(caller.namespace);
    const shown = clients().filter(({ peer }) => seesAll || peer.principal.namespace === caller.namespace);
    return create(ads.DiscoveryResponseSchema, {
      versionInfo: `${this.#nonces}`,
      typeUrl,
      nonce: `${++this.#nonces}`,
      resources: shown.map((client) => anyPack(csds.ClientConfigSchema, this.#clientConfig(client))),
      controlPlane: { identifier: JSON.stringify({ Component: "istiod", ID: podName, Info: { version } }) },
    });
  }

  #clientConfig({ peer, types }: XdsClientStatus<Caller>): csds.ClientConfig {
    const { node, principal } = peer;
    const version = nodeMetadata(node, "ISTIO_VERSION");
    return create(csds.ClientConfigSchema, {
      node: {
        id: node.id.split("~")[2] ?? "",
        metadata: {
          CLUSTER_ID: nodeMetadata(node, "CLUSTER_ID") || this.#options.clusterId,
          NAMESPACE: principal.namespace,
          ...(version === "" ? {} : { ISTIO_VERSION: version }),
        },
      },
      genericXdsConfigs: types.map((type) => ({
        typeUrl: type.typeUrl,
        configStatus: statusOf(type),
        ...(type.ackedAt === 0 ? {} : { lastUpdated: timestampFromMs(type.ackedAt) }),
        ...(type.error === undefined ? {} : { errorState: { details: type.error } }),
      })),
    });
  }
}

function statusOf({ sentNonce, ackedNonce, error }: TypeStatus): csds.ConfigStatus {
  if (error !== undefined) return csds.ConfigStatus.ERROR;
  if (sentNonce === "") return csds.ConfigStatus.NOT_SENT;
  return sentNonce === ackedNonce ? csds.ConfigStatus.SYNCED : csds.ConfigStatus.STALE;
}
