import { create } from "@bufbuild/protobuf";
import { AnySchema, anyPack, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { ads, csds } from "@tulle/api";
import type { Log } from "@tulle/base";
import { credentialsOf, grpcPeer } from "@tulle/pki";
import { nodeMetadata, type TypeStatus, type XdsClientStatus } from "@tulle/xds";
import { type Authenticator, authenticateCall, type Caller } from "../auth/authenticator.ts";
import { type DebugSources, debugPage } from "../http/debug.ts";

export interface DebugStreamOptions {
  readonly authenticator: Authenticator;
  readonly clusterId: string;
  /** Whose callers see everything; others what concerns proxies of their own namespace. */
  readonly namespaces: ReadonlySet<string>;
  readonly sources: DebugSources;
  /** `istioctl proxy-status` shows them. */
  readonly podName: string;
  readonly version: string;
  readonly log: Log;
}

const SYNCZ = "istio.io/debug/syncz";
/** The pages of `/debug/`, by the resource's name: `config_dump?proxyID=…`. */
const PAGES = "istio.io/debug";
/** A tool asks once and goes. */
const MAX_STREAMS = 50;
const MAX_AGE_MS = 60_000;

/**
 * Discovery of whole states, as far as istioctl asks for it (control-plane.md §8.7): `proxy-status`, which proxies are
 * connected here and how far each of them is, and `experimental internal-debug`, the debug pages. Proxies use the
 * incremental half. Who asks is known by the token alone: istioctl names a namespace in its node's id that is not its own.
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
      let nonce = "";
      for (;;) {
        const next = await Promise.race([rest.next(), over]);
        if (next.done === true) return;
        // An acknowledgement wants no answer. istioctl sends a nonce of its own making with its question.
        if (nonce !== "" && next.value.responseNonce === nonce) continue;
        const answer = this.#answer(caller, next.value);
        nonce = answer.nonce;
        yield answer;
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

  #answer(caller: Caller, { typeUrl, resourceNames }: ads.DiscoveryRequest): ads.DiscoveryResponse {
    const { namespaces, podName, version } = this.#options;
    const namespace = namespaces.has(caller.namespace) ? undefined : caller.namespace;
    return create(ads.DiscoveryResponseSchema, {
      versionInfo: `${this.#nonces}`,
      typeUrl,
      nonce: `${++this.#nonces}`,
      resources: this.#resources(typeUrl, resourceNames, namespace),
      controlPlane: { identifier: JSON.stringify({ Component: "istiod", ID: podName, Info: { version } }) },
    });
  }

  #resources(typeUrl: string, names: readonly string[], namespace: string | undefined) {
    const { sources } = this.#options;
    if (typeUrl === SYNCZ) {
      return sources
        .clients()
        .filter(({ peer }) => namespace === undefined || peer.principal.namespace === namespace)
        .map((client) => anyPack(csds.ClientConfigSchema, this.#clientConfig(client)));
    }
    if (typeUrl !== PAGES) {
      const text = `${typeUrl}: ${SYNCZ} and ${PAGES} are served here; proxies use delta discovery`;
      throw new ConnectError(text, Code.Unimplemented);
    }
    const [page, ...others] = names;
    if (page === undefined || others.length > 0) {
      throw new ConnectError(`name one page of /debug/, not ${names.length}`, Code.InvalidArgument);
    }
    const mark = page.indexOf("?");
    const name = mark < 0 ? page : page.slice(0, mark);
    const query = new URLSearchParams(mark < 0 ? "" : page.slice(mark + 1));
    const { text } = debugPage(sources, { name, query, namespace });
    return [create(AnySchema, { typeUrl, value: Buffer.from(text) })];
  }

  #clientConfig({ peer, types }: XdsClientStatus<Caller>): csds.ClientConfig {
    const { node, principal } = peer;
    const version = nodeMetadata(node, "ISTIO_VERSION");
    return create(csds.ClientConfigSchema, {
      node: {
        id: node.id.split("~")[2] ?? "",
        metadata: {
          CLUSTER_ID: nodeMetadata(node, "CLUSTER_ID") || this.#options.sources.clusterId,
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
