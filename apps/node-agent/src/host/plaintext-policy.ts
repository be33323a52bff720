import { PeerAuthentications, refusesPlaintext } from "@tulle/mesh/convert";
import type { KubeObject } from "@tulle/store";
import type { PlaintextPolicy } from "../lifecycle/entry.ts";
import type { Pod } from "../objects.ts";

/** What the mesh's PeerAuthentications say of this node's pods. */
export class PeerAuthenticationPolicy implements PlaintextPolicy {
  #all: PeerAuthentications;
  readonly #onChange: () => void;

  /** `onChange`: some pod may have another mode now. */
  constructor(options: { readonly rootNamespace: string; readonly onChange: () => void }) {
    this.#all = new PeerAuthentications([], { rootNamespace: options.rootNamespace });
    this.#onChange = options.onChange;
  }

  /** Where policies of the whole mesh live now. `objects`: all that there are. */
  setRootNamespace(rootNamespace: string, objects: Iterable<KubeObject>): void {
    this.#all = new PeerAuthentications([], { rootNamespace });
    for (const object of objects) this.#all.put(object);
    this.#onChange();
  }

  put(object: KubeObject): void {
    if (this.#all.put(object).affected !== "none") this.#onChange();
  }

  gone(object: KubeObject): void {
    const { namespace = "", name } = object.metadata;
    if (this.#all.remove(namespace, name).affected !== "none") this.#onChange();
  }

  refuses(pod: Pod, port: number): boolean {
    const { namespace = "", labels } = pod.metadata;
    return refusesPlaintext(this.#all.effectiveMode(namespace, labels), port);
  }
}
