import type { Pod } from "@tulle/store";
import type { Caller, Refusal } from "./authenticator.ts";
import { accountOf, isTerminated, type PodIndex } from "./pod-index.ts";

export interface NodeAccountsOptions {
  /** `namespace/serviceaccount`. */
  readonly trusted: ReadonlySet<string>;
  readonly pods: PodIndex;
  /** How long a pod that nobody has heard of is waited for. Default 1 s. */
  readonly patienceMs?: number;
}

export type NodeProxy = { readonly ok: true; readonly pod: Pod; readonly node: string } | Refusal;

const PATIENCE_MS = 1_000;

/** Node proxies: which accounts they have, and on which node each of them runs. The Pod object says where, not the caller. */
export class NodeAccounts {
  readonly #options: NodeAccountsOptions;

  constructor(options: NodeAccountsOptions) {
    this.#options = options;
  }

  isTrusted({ namespace, serviceAccount }: { readonly namespace: string; readonly serviceAccount: string }): boolean {
    return this.#options.trusted.has(`${namespace}/${serviceAccount}`);
  }

  /** Pods of node proxies that run. */
  running(): Pod[] {
    const { trusted, pods } = this.#options;
    return [...trusted].flatMap((account) => [...pods.ofAccount(account)]).filter((pod) => !isTerminated(pod));
  }

  /** Whether a caller is a node proxy whose pod exists, with this uid and this account, and where. */
  async nodeOf(caller: Caller): Promise<NodeProxy> {
    const { pods, patienceMs = PATIENCE_MS } = this.#options;
    const { namespace, pod: bound, node } = caller;
    const account = `${namespace}/${caller.serviceAccount}`;
    if (!this.isTrusted(caller)) return refuse(`${account} is not one of CA_TRUSTED_NODE_ACCOUNTS`);
    if (bound === undefined) return refuse(`the token of ${account} is not bound to a pod: use a projected token`);
    const full = `${namespace}/${bound.name}`;
    const known = () => {
      const pod = pods.get(namespace, bound.name);
      return pod?.metadata.uid === bound.uid && pod.spec?.nodeName !== undefined ? pod : undefined;
    };
    const pod = await pods.find(known, patienceMs);
    if (pod === undefined) {
      const other = pods.get(namespace, bound.name);
      if (other === undefined) return refuse(`the pod ${full} of the token does not exist`);
      if (other.metadata.uid !== bound.uid) {
        return refuse(`the token is of a former pod ${full} (uid ${bound.uid}, not ${other.metadata.uid})`);
      }
      return refuse(`the pod ${full} is on no node yet`);
    }
    if (accountOf(pod) !== account) return refuse(`the pod ${full} has the account ${accountOf(pod)}, not ${account}`);
    if (isTerminated(pod)) return refuse(`the pod ${full} has ended (${pod.status?.phase})`);
    const where = pod.spec?.nodeName ?? "";
    if (node !== undefined && node !== where)
      return refuse(`the token is of node ${node}, the pod ${full} on ${where}`);
    return { ok: true, pod, node: where };
  }
}

function refuse(reason: string): Refusal {
  return { ok: false, reason };
}
