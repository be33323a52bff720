import type { Log } from "@tulle/base";
import {
  AUTHORIZATION_POLICY,
  type Condition,
  type KubeObject,
  PEER_AUTHENTICATION,
  type ResourceKind,
  SERVICE_ENTRY,
  type Store,
  type Watch,
  WORKLOAD_ENTRY,
} from "@tulle/store";
import { describe } from "../resources/kinds.ts";

const JUDGED: readonly ResourceKind[] = [AUTHORIZATION_POLICY, PEER_AUTHENTICATION, SERVICE_ENTRY, WORKLOAD_ENTRY];
/** Enforced, but not as it is written. */
const IN_PART = "UnsupportedValue";

/** Tells of what the control plane says does not work as written, once for every wording. */
export class ConditionReport implements Disposable {
  readonly #watches: readonly Watch<KubeObject>[];
  readonly #told = new Map<string, string>();
  readonly #log: Log;

  constructor(store: Pick<Store, "watch">, log: Log) {
    this.#log = log;
    this.#watches = JUDGED.map((kind) =>
      store.watch(kind, {
        put: (object) => this.#tell(object),
        gone: (object) => void this.#told.delete(describe(object)),
      }),
    );
  }

  [Symbol.dispose](): void {
    for (const watch of this.#watches) watch.close();
  }

  #tell(object: KubeObject): void {
    const { conditions = [] } = (object.status ?? {}) as { readonly conditions?: readonly Condition[] };
    const bad = conditions.filter(({ status, reason }) => status === "False" || reason === IN_PART);
    const text = bad.map(({ message, reason }) => message ?? reason ?? "").join("; ");
    const about = describe(object);
    if (text === "") this.#told.delete(about);
    else if (this.#told.get(about) !== text) {
      this.#told.set(about, text);
      this.#log.warn(`${about}: ${text}`);
    }
  }
}
