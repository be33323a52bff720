import { formatIdentity, type Identity } from "@tulle/base";
import type {
  Authentication,
  Authorization,
  Caller as CertificateCaller,
  CallerCredentials,
  CaPolicy,
} from "@tulle/pki";
import type { Pod } from "@tulle/store";
import { type Authenticator, authenticateCall, quoted } from "../auth/authenticator.ts";
import type { NodeAccounts } from "../auth/node-accounts.ts";
import { isTerminated, type PodIndex } from "../auth/pod-index.ts";

export interface CertificatePolicyOptions {
  readonly authenticator: Authenticator;
  readonly accounts: NodeAccounts;
  readonly pods: PodIndex;
  readonly clusterId: string;
  readonly trustDomain: () => string;
  /** Resolves when the pods are known. Nobody is judged before. */
  readonly ready: () => Promise<void>;
  /** A call was refused; the pod is the caller's own, as its token shows. */
  readonly onRefused?: (caller: Pod, reason: string) => void;
  /** How long a pod that the watch has not brought yet is waited for. Default 1 s. */
  readonly patienceMs?: number;
}

const PATIENCE_MS = 1_000;
/** How long a request waits for a control plane that has only just started. */
const READY_TIMEOUT_MS = 10_000;

/**
 * Who may have a certificate of whom (control-plane.md §4.1, §4.2): everybody one of its own account; the proxy of a node
 * one of each account that has a pod on that node which is enrolled and runs.
 */
export class CertificatePolicy implements CaPolicy {
  readonly #options: CertificatePolicyOptions;

  constructor(options: CertificatePolicyOptions) {
    this.#options = options;
  }

  async authenticate({ token, clusterId }: CallerCredentials): Promise<Authentication> {
    if (!(await this.#isReady())) return { ok: false, reason: "the control plane does not know the mesh yet" };
    const result = await authenticateCall({ token, clusterId }, this.#options);
    if (!result.ok) {
      if (clusterId !== undefined && clusterId !== this.#options.clusterId) {
        // The token was not looked at: whom the header has cost a certificate is told all the same.
        const who = await authenticateCall({ token, clusterId: undefined }, this.#options);
        if (who.ok) this.#tell(who.caller.namespace, who.caller.pod, result.reason);
      }
      return result;
    }
    const { namespace, serviceAccount, pod, node } = result.caller;
    const identity: Identity = { trustDomain: this.#options.trustDomain(), namespace, serviceAccount };
    const bound = {
      ...(pod === undefined ? {} : { pod }),
      ...(node === undefined ? {} : { node }),
      ...(clusterId === undefined ? {} : { clusterId }),
    };
    return { ok: true, caller: { identity, via: "token", ...bound } };
  }

  async authorize(caller: CertificateCaller, wanted: Identity): Promise<Authorization> {
    const verdict = await this.#judge(caller, wanted);
    if (!verdict.ok) this.#tell(caller.identity.namespace, caller.pod, verdict.reason);
    return verdict;
  }

  async #judge(caller: CertificateCaller, wanted: Identity): Promise<Authorization> {
    const { clusterId, accounts } = this.#options;
    if (caller.via !== "token") return refuse("only a token can stand for a node");
    if (caller.clusterId !== clusterId) {
      const said = caller.clusterId === undefined ? "is missing" : `is ${quoted(caller.clusterId)}`;
      return refuse(`the header clusterid ${said}, but must be ${clusterId}`);
    }
    const { namespace, serviceAccount } = caller.identity;
    const proxy = await accounts.nodeOf({ namespace, serviceAccount, pod: caller.pod, node: caller.node });
    if (!proxy.ok) return proxy;
    // Its own, as anybody could have it without standing for somebody: ztunnel serves its metrics with it.
    if (formatIdentity(wanted) === formatIdentity(caller.identity)) return { ok: true };
    const reason = await this.#objection(wanted, proxy.node);
    return reason === undefined ? { ok: true } : refuse(reason);
  }

  /** Only the very pod of the token: one that has taken its name has nothing to do with it. */
  #tell(namespace: string, caller: CertificateCaller["pod"], reason: string): void {
    const pod = caller === undefined ? undefined : this.#options.pods.get(namespace, caller.name);
    if (pod !== undefined && pod.metadata.uid === caller?.uid) this.#options.onRefused?.(pod, reason);
  }

  /** Why a node's proxy may not have a certificate; undefined: it may. */
  async #objection(wanted: Identity, node: string): Promise<string | undefined> {
    const { pods, patienceMs = PATIENCE_MS } = this.#options;
    const trustDomain = this.#options.trustDomain();
    const uri = formatIdentity(wanted);
    if (wanted.trustDomain !== trustDomain) return `${uri} is not of the trust domain ${trustDomain}`;
    const here = () => [...pods.on(node, wanted.namespace, wanted.serviceAccount)];
    const good = () => here().find((pod) => !isTerminated(pod) && pods.isEnrolled(pod));
    if ((await pods.find(good, patienceMs)) !== undefined) return undefined;
    const all = here();
    if (all.length === 0) return `${uri}: there is no pod of this account on node ${node}`;
    const running = all.filter((pod) => !isTerminated(pod));
    if (running.length === 0) return `${uri}: every pod of this account on node ${node} has ended`;
    const names = running.slice(0, 3).map((pod) => pod.metadata.name);
    return `${uri}: no pod of this account on node ${node} is in the mesh (${names.join(", ")})`;
  }

  async #isReady(): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), READY_TIMEOUT_MS);
    });
    const ready = await Promise.race([this.#options.ready().then(() => true), late]);
    clearTimeout(timer);
    return ready;
  }
}

function refuse(reason: string): Authorization {
  return { ok: false, reason };
}
