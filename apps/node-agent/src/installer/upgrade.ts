import { type ResourceKind, type Store, StoreError } from "@tulle/store";
import { type Log, messageOf, sleep } from "@tulle/base";

/** Whether another node agent follows this one, from the DaemonSet that both belong to (spec: control-plane §7.8). */
export interface UpgradeCheckOptions {
  readonly store: Pick<Store, "get">;
  readonly namespace: string;
  /** Default `istio-cni-node`. */
  readonly name?: string;
  readonly log: Log;
  /** Between tries. Default 1000. */
  readonly pauseMs?: number;
}

const DAEMON_SETS: ResourceKind = {
  group: "apps",
  version: "v1",
  kind: "DaemonSet",
  plural: "daemonsets",
  namespaced: true,
};
const NAME = "istio-cni-node";
/** The pod has a bounded time to end, and this is one of several things that it does in them. */
const ATTEMPTS = 3;
const PAUSE_MS = 1000;

/**
 * True: the DaemonSet stays, so another agent comes, and until then new pods are to wait. False: it is gone or going.
 * When it cannot be told, true: a pod that waits says so, one that starts outside of the mesh says nothing.
 */
export async function isUpgrade({
  store,
  namespace,
  name = NAME,
  log,
  pauseMs = PAUSE_MS,
}: UpgradeCheckOptions): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    try {
      const daemonSet = await store.get(DAEMON_SETS, { namespace, name });
      return daemonSet !== undefined && daemonSet.metadata.deletionTimestamp === undefined;
    } catch (error) {
      // The role or the account went first: this is an uninstallation.
      if (error instanceof StoreError && error.code === "FORBIDDEN") return false;
      if (attempt === ATTEMPTS) {
        log.warn(
          `cannot read DaemonSet ${namespace}/${name}: the CNI plugin stays, and new pods wait for the next node agent`,
          {
            error: messageOf(error),
          },
        );
        return true;
      }
      await sleep(pauseMs);
    }
  }
}
