import type { Log } from "@tulle/base";
import { credentialsOf, grpcPeer } from "@tulle/pki";
import { ADDRESSES, AdsServer, type AdsObserver, AUTHORIZATIONS, WORKLOADS } from "@tulle/xds";
import { type Authenticator, authenticateCall, type Caller, describeCaller } from "../auth/authenticator.ts";
import type { NodeAccounts } from "../auth/node-accounts.ts";
import { admit } from "./admission.ts";

export interface DiscoveryServerOptions {
  readonly authenticator: Authenticator;
  readonly accounts: NodeAccounts;
  readonly clusterId: string;
  readonly ready: () => Promise<void>;
  readonly maxStreamAgeMs: number;
  readonly observer: AdsObserver;
  readonly onNack: (typeUrl: string) => void;
  readonly log: Log;
}

/** Streams of proxies: one each. */
const MAX_STREAMS = 20_000;

/** Delta ADS of the mesh for callers that tokens show (control-plane.md §3). */
export function createDiscoveryServer(options: DiscoveryServerOptions): AdsServer<Caller> {
  const { accounts, observer, ready, log, maxStreamAgeMs, onNack } = options;
  return new AdsServer<Caller>({
    // Policies first: a workload that names one that has not come yet waits for it.
    types: [AUTHORIZATIONS, ADDRESSES, WORKLOADS],
    log,
    ready,
    authenticate: async (context) => {
      const { token, clusterId } = credentialsOf(context);
      const result = await authenticateCall({ token, clusterId }, options);
      if (!result.ok) return result;
      grpcPeer(context).authenticated?.();
      return { ok: true, principal: result.caller };
    },
    authorize: (peer) => admit(peer, accounts),
    describe: describeCaller,
    // What changes is gathered before it is computed, not again after.
    batchWindowMs: 0,
    maxStreams: MAX_STREAMS,
    maxStreamAgeMs,
    observer,
    onNack: (_, { typeUrl }) => onNack(typeUrl),
  });
}
