import { type Log, ROOT_CERT_CONFIG_MAP } from "@tulle/base";
import { CONFIG_MAP, SERVICE_ACCOUNT, type Store } from "@tulle/store";
import { Reconciler } from "./reconciler.ts";
import { MANAGER } from "./status-writer.ts";
import type { Objects } from "./view.ts";

const DEFAULT_ACCOUNT = "default";

/** Gives each namespace its `default` service account, and takes away what was made for one that is gone. */
export class NamespaceController {
  readonly #store: Pick<Store, "apply" | "delete">;
  readonly #done = new Set<string>();
  readonly #reconciler: Reconciler;
  #names: readonly string[] = [];

  constructor(options: { readonly store: Pick<Store, "apply" | "delete">; readonly log: Log }) {
    this.#store = options.store;
    this.#reconciler = new Reconciler({
      work: () => this.#reconcile(),
      complaint: "namespaces have no service account yet",
      log: options.log,
    });
  }

  update({ namespaces }: Pick<Objects, "namespaces">): void {
    this.#names = namespaces.map(({ metadata }) => metadata.name);
    this.#reconciler.poke();
  }

  close(): Promise<void> {
    return this.#reconciler.close();
  }

  async #reconcile(): Promise<void> {
    const names = new Set(this.#names);
    for (const name of names) if (!this.#done.has(name)) await this.#make(name);
    for (const name of this.#done) if (!names.has(name)) await this.#clear(name);
  }

  async #make(namespace: string): Promise<void> {
    const account = { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: DEFAULT_ACCOUNT, namespace } };
    await this.#store.apply(SERVICE_ACCOUNT, account, { manager: MANAGER });
    this.#done.add(namespace);
  }

  async #clear(namespace: string): Promise<void> {
    await this.#store.delete(SERVICE_ACCOUNT, { namespace, name: DEFAULT_ACCOUNT });
    await this.#store.delete(CONFIG_MAP, { namespace, name: ROOT_CERT_CONFIG_MAP });
    this.#done.delete(namespace);
  }
}
