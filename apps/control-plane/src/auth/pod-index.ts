import { LEAVING_ANNOTATION, REDIRECTION_ANNOTATION } from "@tulle/base";
import { decide, type EnrolmentSettings } from "@tulle/base/enrolment";
import type { Namespace, Pod } from "@tulle/store";

export interface PodIndexOptions {
  /** As the node agents have them. */
  readonly enrolment: EnrolmentSettings;
  /** The pod is gone, or another one has taken its name. */
  onGone?(pod: Pod): void;
}

/** Callers that wait for the watch to catch up; one more is answered from what is known. */
const MAX_WAITERS = 1_000;

/** The pods of the mesh by name, and by node and service account; kept up to date pod by pod. */
export class PodIndex {
  readonly #options: PodIndexOptions;
  readonly #pods = new Map<string, Pod>();
  /** Names of pods by `node namespace/serviceaccount`, and by `namespace/serviceaccount`. */
  readonly #byAccount = new Map<string, Set<string>>();
  readonly #namespaces = new Map<string, Namespace>();
  readonly #waiters = new Set<() => void>();

  constructor(options: PodIndexOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#pods.size;
  }

  get(namespace: string, name: string): Pod | undefined {
    return this.#pods.get(`${namespace}/${name}`);
  }

  /** Of a service account on a node. */
  on(node: string, namespace: string, serviceAccount: string): Iterable<Pod> {
    return this.#find(`${node} ${namespace}/${serviceAccount}`);
  }

  /** Of a service account (`namespace/name`), on any node. */
  ofAccount(account: string): Iterable<Pod> {
    return this.#find(account);
  }

  put(pod: Pod): void {
    const key = keyOf(pod);
    const old = this.#pods.get(key);
    if (old !== undefined) this.#unlink(key, old);
    this.#pods.set(key, pod);
    for (const account of accountKeys(pod)) {
      const names = this.#byAccount.get(account);
      if (names === undefined) this.#byAccount.set(account, new Set([key]));
      else names.add(key);
    }
    if (old !== undefined && old.metadata.uid !== pod.metadata.uid) this.#options.onGone?.(old);
    this.#wake();
  }

  remove(pod: Pod): void {
    const key = keyOf(pod);
    const old = this.#pods.get(key);
    if (old === undefined) return;
    this.#unlink(key, old);
    this.#pods.delete(key);
    this.#options.onGone?.(old);
  }

  putNamespace(namespace: Namespace): void {
    this.#namespaces.set(namespace.metadata.name, namespace);
    this.#wake();
  }

  removeNamespace(name: string): void {
    this.#namespaces.delete(name);
  }

  /**
   * Whether a pod is to be captured, by the node agents' own decision, or still is, by what one of them has noted on it
   * (the note comes only after ztunnel's first request for a certificate). Not while its namespace is not known.
   */
  isEnrolled(pod: Pod): boolean {
    // Such a pod is never captured, whatever is written on it.
    if (pod.spec?.hostNetwork === true) return false;
    const { annotations, namespace = "" } = pod.metadata;
    if (annotations?.[REDIRECTION_ANNOTATION] === "enabled" || annotations?.[LEAVING_ANNOTATION] !== undefined) {
      return true;
    }
    return decide(pod, this.#namespaces.get(namespace), this.#options.enrolment).kind === "enrol";
  }

  /**
   * What `find` gives, as soon as it gives something, or after `timeoutMs` whatever it gives then: a watch is a little
   * behind those who act on what they saw.
   */
  async find<T>(find: () => T | undefined, timeoutMs: number): Promise<T | undefined> {
    const found = find();
    if (found !== undefined || this.#waiters.size >= MAX_WAITERS) return found;
    return new Promise((resolve) => {
      const settle = (value: T | undefined) => {
        clearTimeout(timer);
        this.#waiters.delete(look);
        resolve(value);
      };
      const look = () => {
        const now = find();
        if (now !== undefined) settle(now);
      };
      const timer = setTimeout(() => settle(find()), timeoutMs);
      this.#waiters.add(look);
    });
  }

  *#find(account: string): Iterable<Pod> {
    for (const name of this.#byAccount.get(account) ?? []) {
      const pod = this.#pods.get(name);
      if (pod !== undefined) yield pod;
    }
  }

  #wake(): void {
    for (const look of [...this.#waiters]) look();
  }

  #unlink(key: string, pod: Pod): void {
    for (const account of accountKeys(pod)) {
      const names = this.#byAccount.get(account);
      names?.delete(key);
      if (names?.size === 0) this.#byAccount.delete(account);
    }
  }
}

/** Whether a pod has ended for good. */
export function isTerminated(pod: Pod): boolean {
  return pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
}

export function accountOf(pod: Pod): string {
  return `${pod.metadata.namespace ?? ""}/${pod.spec?.serviceAccountName ?? "default"}`;
}

function accountKeys(pod: Pod): readonly string[] {
  const account = accountOf(pod);
  return [account, `${pod.spec?.nodeName ?? ""} ${account}`];
}

function keyOf(pod: Pod): string {
  return `${pod.metadata.namespace ?? ""}/${pod.metadata.name}`;
}
