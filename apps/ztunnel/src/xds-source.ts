import { type Log, messageOf } from "@tulle/base";
import type { MeshChange, MeshState } from "@tulle/mesh";
import type { MainMetrics } from "@tulle/telemetry";
import type { Rejection, XdsClient, XdsUpdate } from "@tulle/xds";
import type { Config } from "./config.ts";

/** As in packages/api, which is not loaded without a control plane. */
const ADDRESS_TYPE = "type.googleapis.com/istio.workload.Address";
const AUTHORIZATION_TYPE = "type.googleapis.com/istio.security.Authorization";

export interface XdsSourceOptions {
  readonly config: Config;
  readonly state: MeshState;
  /** Throws when a change cannot be sent to the data threads: nothing of these changes counts then. */
  readonly apply: (changes: readonly MeshChange[]) => void;
  readonly metrics: MainMetrics;
  readonly log: Log;
}

export interface XdsSource {
  /** Every wildcard type was accepted once; at once without a control plane. */
  readonly ready: Promise<void>;
  /** On demand: resolves when the control plane has answered and the answer was applied. */
  demand(name: string): Promise<void>;
  close(): void;
}

/** Follows the control plane's delta stream, if there is one (spec: l4-ztunnel §5). */
export function startXdsSource(options: XdsSourceOptions): XdsSource {
  if (options.config.xds === undefined) {
    return { ready: Promise.resolve(), demand: () => Promise.resolve(), close() {} };
  }
  const ended = new AbortController();
  const client = connect(options, ended.signal);
  return {
    ready: client.then((connected) => connected.whenReady()),
    demand: async (name) => (await client).demand(ADDRESS_TYPE, name),
    close: () => ended.abort(),
  };
}

/** The gRPC and protobuf libraries are large: only who has a control plane pays for them. */
async function connect(options: XdsSourceOptions, signal: AbortSignal): Promise<XdsClient> {
  const { config, metrics, log } = options;
  const { xds, token, clusterId } = config;
  if (xds === undefined) throw new Error("no control plane is configured");
  const [{ XdsClient }, { openGrpcChannel }, wds] = await Promise.all([
    import("@tulle/xds"),
    import("@tulle/pki"),
    import("@tulle/mesh/wds"),
  ]);
  const client = new XdsClient({
    open: () =>
      openGrpcChannel({
        address: xds.address,
        roots: xds.roots,
        token,
        clusterId,
        headers: xds.headers,
        ...(xds.altHostname === undefined ? {} : { altHostname: xds.altHostname }),
      }),
    // The configuration gives JSON values only.
    node: { id: xds.node.id, metadata: xds.node.metadata as Record<string, string> },
    types: [
      {
        typeUrl: ADDRESS_TYPE,
        mode: config.xdsOnDemand ? "on-demand" : "wildcard",
        apply: (update) => applyAddresses(update, options, wds),
      },
      { typeUrl: AUTHORIZATION_TYPE, apply: (update) => applyPolicies(update, options, wds) },
    ],
    log,
    metrics: {
      onTermination: (reason) => metrics.xdsTerminated(reason),
      onMessage: (typeUrl, bytes) => metrics.xdsMessage(typeUrl, bytes),
    },
    onConnected: (connected) => log.info(connected ? "connected to the control plane" : "lost the control plane"),
  });
  void client.run(signal);
  return client;
}

type Wds = typeof import("@tulle/mesh/wds");

function applyAddresses(update: XdsUpdate, { state, apply, log }: XdsSourceOptions, wds: Wds): readonly Rejection[] {
  const removed = update.removed.flatMap((name) => {
    const change = wds.removedAddress(name, (uid) => state.workload(uid) !== undefined);
    return change === undefined ? [] : [{ name, change }];
  });
  return applyEach(update, wds.decodeAddress, removed, apply, log);
}

function applyPolicies(update: XdsUpdate, { apply, log }: XdsSourceOptions, wds: Wds): readonly Rejection[] {
  const removed = update.removed.map((name) => ({ name, change: { kind: "remove-policy", key: name } as const }));
  return applyEach(update, wds.decodeAuthorization, removed, apply, log);
}

/** Good resources are applied, bad ones are named; what comes goes before what leaves, so that no address is unknown in between. */
function applyEach(
  update: XdsUpdate,
  decode: Wds["decodeAddress"],
  removed: readonly { readonly name: string; readonly change: MeshChange }[],
  apply: (changes: readonly MeshChange[]) => void,
  log: Log,
): readonly Rejection[] {
  const rejections: Rejection[] = [];
  const changes: { readonly name: string; readonly change: MeshChange }[] = [];
  for (const { name, bytes } of update.resources) {
    const decoded = decode(bytes);
    if (decoded.ok) changes.push({ name, change: decoded.value });
    else rejections.push({ name, reason: decoded.reason });
  }
  changes.push(...removed);
  try {
    apply(changes.map(({ change }) => change));
  } catch (error) {
    // One of them is too large to be sent to the threads: find it by applying each alone.
    log.debug("a batch of resources cannot be applied as a whole", { error: messageOf(error) });
    for (const { name, change } of changes) {
      try {
        apply([change]);
      } catch (single) {
        rejections.push({ name, reason: messageOf(single) });
      }
    }
  }
  for (const { name, reason } of rejections) log.warn("resource rejected", { name, reason });
  return rejections;
}
