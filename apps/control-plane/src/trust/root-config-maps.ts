import { type Log, messageOf, ROOT_CERT_CONFIG_MAP, ROOT_CERT_KEY } from "@tulle/base";
import {
  CONFIG_MAP,
  type ConfigMap,
  NAMESPACE,
  type Namespace,
  type Store,
  StoreError,
  type Watch,
} from "@tulle/store";

export interface RootConfigMapsOptions {
  readonly store: Store;
  /** PEM. */
  readonly roots: () => string;
  readonly log: Log;
  /** Default 1 s. */
  readonly settleMs?: number;
}

/** Nobody runs there: control-plane.md §4.4. */
const EXCLUDED = new Set(["kube-public", "kube-node-lease", "local-path-storage"]);
const LABELS = { "istio.io/config": "true" };
const MANAGER = "tulle-control-plane";
/** Writes under way at a time. */
const MAX_CONCURRENT = 8;
const RETRY = { initialMs: 250, maxMs: 30_000 };
/** Whoever edits it again and again is answered this often. */
const SETTLE_MS = 1_000;

interface Entry {
  /** When it was last written, or tried. */
  at: number;
  failures: number;
  timer: NodeJS.Timeout | undefined;
}

/** Keeps the ConfigMap with the mesh's roots in every namespace, where proxies mount it; what is edited or deleted comes back. */
export class RootConfigMaps {
  readonly #options: RootConfigMapsOptions;
  readonly #namespaces: Watch<Namespace>;
  readonly #configMaps: Watch<ConfigMap>;
  readonly #entries = new Map<string, Entry>();
  readonly #queue = new Set<string>();
  #running = 0;
  #started = false;
  #closed = false;

  constructor(options: RootConfigMapsOptions) {
    this.#options = options;
    const { store } = options;
    this.#namespaces = store.watch(NAMESPACE, {
      put: ({ metadata }) => this.#check(metadata.name),
      gone: ({ metadata }) => this.#forget(metadata.name),
    });
    const selection = { fields: { "metadata.name": ROOT_CERT_CONFIG_MAP } };
    const onChange = ({ metadata }: ConfigMap) => this.#check(metadata.namespace ?? "");
    this.#configMaps = store.watch(CONFIG_MAP, { put: onChange, gone: onChange }, selection);
    void Promise.all([this.#namespaces.whenSynced(), this.#configMaps.whenSynced()]).then(
      () => {
        this.#started = true;
        this.refresh();
      },
      // Closed before: there is nothing to keep.
      () => undefined,
    );
  }

  /** The roots are others. */
  refresh(): void {
    for (const { metadata } of this.#namespaces.values()) this.#check(metadata.name);
  }

  /** Namespaces that lack the roots of now. */
  get missing(): number {
    let count = 0;
    for (const { metadata } of this.#namespaces.values()) if (this.#needed(metadata.name)) count++;
    return count;
  }

  close(): void {
    this.#closed = true;
    this.#namespaces.close();
    this.#configMaps.close();
    for (const { timer } of this.#entries.values()) clearTimeout(timer);
    this.#entries.clear();
    this.#queue.clear();
  }

  #needed(namespace: string): boolean {
    const object = this.#namespaces.get({ name: namespace });
    if (object === undefined || EXCLUDED.has(namespace)) return false;
    if (object.metadata.deletionTimestamp !== undefined || object.status?.phase === "Terminating") return false;
    const known = this.#configMaps.get({ namespace, name: ROOT_CERT_CONFIG_MAP });
    if (known === undefined) return true;
    const labelled = Object.entries(LABELS).every(([name, value]) => known.metadata.labels?.[name] === value);
    return !labelled || known.data?.[ROOT_CERT_KEY] !== this.#options.roots();
  }

  #check(namespace: string): void {
    if (!this.#started || this.#closed || !this.#needed(namespace)) return;
    const entry = this.#entries.get(namespace) ?? { at: Number.NEGATIVE_INFINITY, failures: 0, timer: undefined };
    this.#entries.set(namespace, entry);
    if (entry.timer !== undefined) return;
    const { settleMs = SETTLE_MS } = this.#options;
    const backoff = entry.failures === 0 ? settleMs : RETRY.initialMs * 2 ** (entry.failures - 1);
    const wait = entry.at + Math.min(backoff, RETRY.maxMs) - performance.now();
    if (wait <= 0) this.#enqueue(namespace);
    else {
      entry.timer = setTimeout(() => {
        entry.timer = undefined;
        this.#check(namespace);
      }, wait);
      entry.timer.unref();
    }
  }

  #enqueue(namespace: string): void {
    this.#queue.add(namespace);
    while (this.#running < MAX_CONCURRENT) {
      const [next] = this.#queue;
      if (next === undefined) return;
      this.#queue.delete(next);
      this.#running++;
      void this.#write(next).finally(() => {
        this.#running--;
        const [waiting] = this.#queue;
        if (waiting !== undefined) this.#enqueue(waiting);
      });
    }
  }

  async #write(namespace: string): Promise<void> {
    const { store, roots, log } = this.#options;
    const entry = this.#entries.get(namespace);
    // Another event may have had it written meanwhile.
    if (entry === undefined || this.#closed || !this.#needed(namespace)) return;
    entry.at = performance.now();
    const object: ConfigMap = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { namespace, name: ROOT_CERT_CONFIG_MAP, labels: LABELS },
      data: { [ROOT_CERT_KEY]: roots() },
    };
    try {
      await store.apply(CONFIG_MAP, object, { manager: MANAGER, force: true });
      entry.failures = 0;
      log.debug("the roots were written", { namespace });
    } catch (error) {
      // The namespace is on its way out, or gone.
      if (error instanceof StoreError && error.code === "NOT_FOUND") return;
      entry.failures++;
      log.warn("the roots cannot be written", { namespace, configMap: ROOT_CERT_CONFIG_MAP, error: messageOf(error) });
    }
    // In case it was changed between; what was just written is not known to the watch yet, so not at once.
    this.#check(namespace);
  }

  #forget(namespace: string): void {
    clearTimeout(this.#entries.get(namespace)?.timer);
    this.#entries.delete(namespace);
    this.#queue.delete(namespace);
  }
}
