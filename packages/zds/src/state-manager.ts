import { type Log, messageOf } from "@tulle/base";
import type { PodInfo } from "./protocol.ts";

/** A pod's network namespace, owned by whoever holds it. `key` tells one namespace from another. */
export interface PodNamespace {
  readonly key: string;
  close(): void;
}

/** What runs a pod's proxy. */
export interface ProxyRunner<N extends PodNamespace> {
  /** Borrows the namespace; rejects with the reason, having undone everything. */
  start(uid: string, info: PodInfo, namespace: N): Promise<void>;
  /**
   * Resolves when the proxy has all that its first connection needs, or when waiting for it has to end: a pod that joins
   * after the snapshot is answered for only then. Those of a snapshot are served already, or wait for each other.
   */
  whenReady?(uid: string): Promise<void>;
  /** Resolves when every socket of the pod is closed. */
  stop(uid: string): Promise<void>;
}

export interface StateManagerOptions<N extends PodNamespace> {
  readonly runner: ProxyRunner<N>;
  readonly log: Log;
  /** Running and pending proxies, whenever that changes. */
  readonly onChange?: () => void;
  /** Between two tries to start a pod's proxy. Default 5 s (spec: l4-ztunnel §7.4). */
  readonly retryMs?: number;
}

interface Pod<N extends PodNamespace> {
  readonly info: PodInfo;
  readonly namespace: N;
  state: "up" | "pending";
}

/** A message that may not come now: the whole protocol is off (spec: l4-ztunnel §7.3). */
export class ZdsProtocolError extends Error {}

const RETRY_MS = 5000;
/** Several times what a node runs. */
const MAX_PODS = 4096;

/**
 * Which pods this node's proxy serves: what the agent has announced, what runs, what could not be started and is tried
 * again (spec: l4-ztunnel §7.3, §7.4). Messages are handled one after another, each to its end.
 */
export class StateManager<N extends PodNamespace> {
  readonly #options: StateManagerOptions<N>;
  readonly #pods = new Map<string, Pod<N>>();
  #announced = new Set<string>();
  /** Messages and retries, one after another: a pod is never started twice at a time. */
  #turn: Promise<unknown> = Promise.resolve();
  #snapshotDone = false;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: StateManagerOptions<N>) {
    this.#options = options;
  }

  /** The snapshot of this connection was received and every announced proxy runs. */
  get ready(): boolean {
    return this.#snapshotDone && this.pending === 0;
  }

  get pending(): number {
    return [...this.#pods.values()].filter(({ state }) => state === "pending").length;
  }

  get active(): number {
    return this.#pods.size - this.pending;
  }

  /** For `/config_dump`. */
  pods(): readonly { readonly uid: string; readonly info: PodInfo; readonly state: "Up" | "Pending" }[] {
    return [...this.#pods].map(([uid, { info, state }]) => ({ uid, info, state: state === "up" ? "Up" : "Pending" }));
  }

  /** A new connection: a snapshot follows. Proxies go on meanwhile. */
  connected(): void {
    this.#announced = new Set();
    this.#snapshotDone = false;
    this.#changed();
  }

  disconnected(): void {
    this.#snapshotDone = false;
    this.#changed();
  }

  /** Owns the namespace. Rejects with the reason when the proxy could not be started; it is tried again by itself. */
  add(uid: string, info: PodInfo, namespace: N): Promise<void> {
    return this.#inTurn(() => this.#add(uid, info, namespace));
  }

  /** Throws ZdsProtocolError after the snapshot: then there is nothing to keep. */
  keep(uid: string): void {
    if (this.#snapshotDone) throw new ZdsProtocolError("Keep is only allowed before the snapshot is complete");
    this.#announced.add(uid);
  }

  /** An unknown pod is nothing to complain about. Before the snapshot's end only the announcement is taken back. */
  del(uid: string): Promise<void> {
    return this.#inTurn(async () => {
      this.#announced.delete(uid);
      const known = this.#pods.get(uid);
      if (known !== undefined && (this.#snapshotDone || known.state === "pending")) await this.#remove(uid);
    });
  }

  /** Ends every proxy that the agent has not mentioned. Throws ZdsProtocolError when it comes twice. */
  snapshotSent(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#snapshotDone) throw new ZdsProtocolError("the snapshot was complete already");
      for (const uid of [...this.#pods.keys()]) if (!this.#announced.has(uid)) await this.#remove(uid);
      this.#snapshotDone = true;
      this.#changed();
    });
  }

  /** Ends no proxy: the data threads are ended by whoever owns them. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    for (const { namespace } of this.#pods.values()) namespace.close();
    this.#pods.clear();
  }

  async #add(uid: string, info: PodInfo, namespace: N): Promise<void> {
    this.#announced.add(uid);
    const known = this.#pods.get(uid);
    if (known?.state === "up" && known.namespace.key === namespace.key) return namespace.close();
    if (known === undefined && this.#pods.size >= MAX_PODS) {
      namespace.close();
      throw new Error(`${MAX_PODS} pods are served already`);
    }
    if (known !== undefined) await this.#remove(uid);
    const pod: Pod<N> = { info, namespace, state: "pending" };
    this.#pods.set(uid, pod);
    await this.#start(uid, pod);
    if (this.#snapshotDone) await this.#options.runner.whenReady?.(uid);
  }

  async #start(uid: string, pod: Pod<N>): Promise<void> {
    try {
      await this.#options.runner.start(uid, pod.info, pod.namespace);
    } catch (error) {
      this.#scheduleRetry();
      this.#changed();
      throw error;
    }
    // The pod may have gone while its proxy started.
    if (this.#pods.get(uid) === pod) pod.state = "up";
    this.#changed();
  }

  async #remove(uid: string): Promise<void> {
    const pod = this.#pods.get(uid);
    if (pod === undefined) return;
    this.#pods.delete(uid);
    try {
      if (pod.state === "up") await this.#options.runner.stop(uid);
    } finally {
      pod.namespace.close();
      this.#changed();
    }
  }

  #scheduleRetry(): void {
    if (this.#closed || this.#retry !== undefined) return;
    const retry = () => void this.#inTurn(() => this.#retryPending());
    this.#retry = setTimeout(retry, this.#options.retryMs ?? RETRY_MS);
  }

  async #retryPending(): Promise<void> {
    this.#retry = undefined;
    for (const [uid, pod] of [...this.#pods]) {
      if (this.#closed || pod.state !== "pending" || this.#pods.get(uid) !== pod) continue;
      try {
        await this.#start(uid, pod);
        this.#options.log.info("proxy started after a retry", { uid });
      } catch (error) {
        this.#options.log.warn("proxy still cannot be started", { uid, error: messageOf(error) });
      }
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  #changed(): void {
    this.#options.onChange?.();
  }
}
