import { type KubeObject, type Store, StoreError } from "@tulle/store";
import { type Log, matchesSelector, messageOf, sleep } from "@tulle/base";
import { AGENT_NAME, OPERATORS } from "@tulle/base/enrolment";
import { DAEMON_SETS, type DaemonSet, NODES, type NodeRequirement } from "../objects.ts";

/** Whether another node agent follows this one, from the DaemonSet that both belong to (spec: control-plane §7.8). */
export interface UpgradeCheckOptions {
  readonly store: Pick<Store, "get">;
  readonly namespace: string;
  /** This node. */
  readonly node: string;
  /** Default `istio-cni-node`. */
  readonly name?: string;
  readonly log: Log;
  /** Between tries. Default 1000. */
  readonly pauseMs?: number;
}

/** The pod has a bounded time to end, and this is one of several things that it does in them. */
const ATTEMPTS = 3;
const PAUSE_MS = 1000;

/**
 * True: the DaemonSet stays, so another agent comes, and until then new pods are to wait. False: it is gone or going, or
 * this node is no longer one of its nodes. When it cannot be told, true: a pod that waits says so, one that starts outside of the mesh says nothing.
 */
export async function isUpgrade({
  store,
  namespace,
  node,
  name = AGENT_NAME,
  log,
  pauseMs = PAUSE_MS,
}: UpgradeCheckOptions): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    try {
      const daemonSet = await store.get(DAEMON_SETS, { namespace, name });
      if (daemonSet === undefined || daemonSet.metadata.deletionTimestamp !== undefined) return false;
      const own = await store.get(NODES, { name: node }).catch(nothingIfForbidden);
      return own === undefined || selectsNode(daemonSet, own);
    } catch (error) {
      // The role or the account went first: this is an uninstallation.
      if (error instanceof StoreError && error.code === "FORBIDDEN") return false;
      if (attempt === ATTEMPTS) {
        log.warn(
          `cannot find out whether DaemonSet ${namespace}/${name} still wants an agent here: the CNI plugin stays, and new pods wait for the next node agent`,
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

/** The role of an older installation does not let us look at nodes. */
function nothingIfForbidden(error: unknown): undefined {
  if (!(error instanceof StoreError) || error.code !== "FORBIDDEN") throw error;
}

/** As Kubernetes places a DaemonSet's pods. What cannot be understood counts as fitting. */
function selectsNode(daemonSet: DaemonSet, { metadata }: KubeObject): boolean {
  const { nodeSelector = {}, affinity } = daemonSet.spec?.template?.spec ?? {};
  const terms = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (!matchesSelector({ matchLabels: nodeSelector }, metadata.labels)) return false;
  // A term without requirements fits no node.
  return (
    terms?.some(({ matchExpressions = [], matchFields = [] }) => {
      const labels = matchExpressions.every((one) => holds(one, metadata.labels));
      const fields = matchFields.every((one) => holds(one, { "metadata.name": metadata.name }));
      return matchExpressions.length + matchFields.length > 0 && labels && fields;
    }) ?? true
  );
}

function holds({ key, operator, values = [] }: NodeRequirement, labels: KubeObject["metadata"]["labels"]): boolean {
  const known = OPERATORS.find((name) => name === operator);
  return known === undefined || matchesSelector({ matchExpressions: [{ key, operator: known, values }] }, labels);
}
