import type { AuthorizationPolicy, Namespace, PeerAuthentication, Service } from "../resources/kinds.ts";
import type { Pod } from "./pod.ts";

/**
 * The objects as a cluster's API would hold them: what the directory says, completed by what this machine made of it (pods
 * with addresses, services with cluster IPs). Whoever computes the mesh reads here and nowhere else.
 */
export interface Objects {
  readonly namespaces: readonly Namespace[];
  readonly services: readonly Service[];
  readonly pods: readonly Pod[];
  readonly authorizationPolicies: readonly AuthorizationPolicy[];
  readonly peerAuthentications: readonly PeerAuthentication[];
}

export type ObjectsListener = (objects: Objects) => void;

export const NO_OBJECTS: Objects = {
  namespaces: [],
  services: [],
  pods: [],
  authorizationPolicies: [],
  peerAuthentications: [],
};

/** Holds the current objects; listeners hear of several changes in one turn once. */
export class ObjectStore {
  #objects: Objects = NO_OBJECTS;
  readonly #listeners = new Set<ObjectsListener>();
  #announcing = false;

  get current(): Objects {
    return this.#objects;
  }

  update(change: Partial<Objects>): void {
    this.#objects = { ...this.#objects, ...change };
    if (this.#announcing) return;
    this.#announcing = true;
    setImmediate(() => {
      this.#announcing = false;
      for (const listener of this.#listeners) listener(this.#objects);
    });
  }

  /** Calls `listener` now and after every change, until the returned function is called. */
  subscribe(listener: ObjectsListener): () => void {
    this.#listeners.add(listener);
    listener(this.#objects);
    return () => this.#listeners.delete(listener);
  }
}
