import type { Identity, Log } from "@tulle/base";
import type { NetNamespace } from "@tulle/linux";
import { type MeshState, workloadIdentity } from "@tulle/mesh";
import type { MainMetrics } from "@tulle/telemetry";
import { type PodInfo, type ProxyRunner, StateManager, ZdsClient } from "@tulle/zds";
import type { Config } from "./config.ts";
import type { DataThreads } from "./data-threads.ts";
import type { IdentityProvisioner } from "./identity-provisioner.ts";
import type { Readiness } from "./readiness.ts";

/** uid of the proxy of dedicated mode, and of the one for our own pod. */
const DEDICATED_UID = "dedicated";
const SELF_UID = "self";

export interface ProxiesOptions {
  readonly config: Config;
  readonly threads: DataThreads;
  readonly state: MeshState;
  readonly identities: Pick<IdentityProvisioner, "serve" | "release" | "whenReady">;
  readonly metrics: MainMetrics;
  readonly readiness: Readiness;
  readonly log: Log;
  /** The agent has broken the protocol: the process must end. */
  readonly onFatal: (error: unknown) => void;
}

/** Which proxies this process runs, and who decides that: its configuration, or the node agent. */
export interface Proxies {
  /** For `/config_dump`; undefined in dedicated mode. */
  readonly state: StateManager<NetNamespace> | undefined;
  close(): void;
}

/** To be called once the mesh is known: before that no proxy may take a connection. Rejects when a listener cannot be opened. */
export async function startProxies(options: ProxiesOptions): Promise<Proxies> {
  const { config, threads } = options;
  if (config.mode === "dedicated") {
    if (config.workload !== undefined) {
      await threads.startProxy({
        proxy: "dedicated",
        uid: DEDICATED_UID,
        workload: config.workload,
        namespace: undefined,
      });
    }
    return { state: undefined, close() {} };
  }
  if (config.self !== undefined) {
    await threads.startProxy({ proxy: "self", uid: SELF_UID, workload: config.self.workload, namespace: undefined });
  }
  return followAgent(options);
}

function followAgent(options: ProxiesOptions): Proxies {
  const { config, threads, identities, metrics, readiness, log, onFatal } = options;
  const runner: ProxyRunner<NetNamespace> = {
    async start(uid: string, info: PodInfo, namespace: NetNamespace): Promise<void> {
      identities.serve(uid, identityOf(info, options));
      try {
        await threads.startProxy({ proxy: "in-pod", uid, workload: info, namespace });
      } catch (error) {
        identities.release(uid);
        throw error;
      }
      metrics.proxyStarted();
      log.info("proxy started", { uid, pod: info.name, namespace: info.namespace });
    },
    // Without a CA no certificate ever comes.
    whenReady: (uid: string) => (config.ca === undefined ? Promise.resolve() : identities.whenReady(uid)),
    async stop(uid: string): Promise<void> {
      // The agent tells us of a pod's end when the pod is gone, or nothing of it is in use: there is nobody left to drain for.
      await threads.stopProxy(uid, "immediate");
      identities.release(uid);
      metrics.proxyStopped();
      log.info("proxy stopped", { uid });
    },
  };
  const state: StateManager<NetNamespace> = new StateManager({
    runner,
    log,
    onChange: () => metrics.proxies(state.active, state.pending),
  });
  readiness.check(() => (state.ready ? [] : ["workload proxy manager"]));
  const client = new ZdsClient({ path: config.inpodSocket, state, log: log.scope("inpod") });
  client.run().catch(onFatal);
  return {
    state,
    close() {
      client.close();
      state.close();
    },
  };
}

/** As the control plane knows the pod; if it does not know it yet, as it will. */
function identityOf({ namespace, name, serviceAccount }: PodInfo, { config, state }: ProxiesOptions): Identity {
  const known = state.localWorkload({ namespace, name, serviceAccount }, config.nodeName);
  if (known !== undefined) return workloadIdentity(known);
  return { trustDomain: config.trustDomain, namespace, serviceAccount };
}
