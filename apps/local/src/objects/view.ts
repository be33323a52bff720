import { type Log, SYSTEM_NAMESPACE } from "@tulle/base";
import {
  DEPLOYMENT,
  type KubeObject,
  NAMESPACE,
  type Namespace,
  type ResourceKind,
  SERVICE,
  type Store,
  type Watch,
} from "@tulle/store";
import type { Deployment, Service } from "../resources/kinds.ts";
import { type Pod, PODS } from "./pod.ts";

/** The objects that the local mesh plays itself, as they are now. */
export interface Objects {
  readonly namespaces: readonly Namespace[];
  readonly services: readonly Service[];
  readonly deployments: readonly Deployment[];
  /** Without those that only stand for processes of the mesh. */
  readonly pods: readonly Pod[];
}

export type ObjectsListener = (objects: Objects) => void;

export const NO_OBJECTS: Objects = { namespaces: [], services: [], deployments: [], pods: [] };
const SERVICES = SERVICE as ResourceKind<Service>;
const DEPLOYMENTS = DEPLOYMENT as ResourceKind<Deployment>;

/** Follows those objects; listeners hear of several changes in one turn once. */
export class ObjectView implements Disposable {
  readonly #namespaces: Watch<Namespace>;
  readonly #services: Watch<Service>;
  readonly #deployments: Watch<Deployment>;
  readonly #pods: Watch<Pod>;
  readonly #listeners = new Set<ObjectsListener>();
  readonly #log: Log;
  #objects: Objects | undefined;
  #announcing = false;

  constructor(store: Pick<Store, "watch">, log: Log) {
    this.#log = log;
    const follow = <T extends KubeObject>(kind: ResourceKind<T>) =>
      store.watch(kind, { put: () => this.#changed(), gone: () => this.#changed() });
    this.#namespaces = follow(NAMESPACE);
    this.#services = follow(SERVICES);
    this.#deployments = follow(DEPLOYMENTS);
    this.#pods = follow(PODS);
  }

  async whenSynced(signal?: AbortSignal): Promise<void> {
    await Promise.all(this.#watches.map((watch) => watch.whenSynced(signal)));
  }

  get current(): Objects {
    this.#objects ??= {
      namespaces: [...this.#namespaces.values()],
      services: [...this.#services.values()],
      deployments: [...this.#deployments.values()].filter(isUsers),
      pods: [...this.#pods.values()].filter(isUsers),
    };
    return this.#objects;
  }

  /** Calls `listener` now and after every change, until the returned function is called. */
  subscribe(listener: ObjectsListener): () => void {
    this.#listeners.add(listener);
    listener(this.current);
    return () => this.#listeners.delete(listener);
  }

  [Symbol.dispose](): void {
    this.#listeners.clear();
    for (const watch of this.#watches) watch.close();
  }

  get #watches(): readonly Watch<KubeObject>[] {
    return [this.#namespaces, this.#services, this.#deployments, this.#pods] as readonly Watch<KubeObject>[];
  }

  #changed(): void {
    this.#objects = undefined;
    if (this.#announcing) return;
    this.#announcing = true;
    setImmediate(() => {
      this.#announcing = false;
      for (const listener of this.#listeners) {
        try {
          listener(this.current);
        } catch (error) {
          // One part that fails must not leave the others with old objects.
          this.#log.error(`a change was not taken in: ${String(error)}`);
        }
      }
    });
  }
}

function isUsers({ metadata }: KubeObject): boolean {
  return metadata.namespace !== SYSTEM_NAMESPACE;
}
