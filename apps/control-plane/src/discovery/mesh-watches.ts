import type { MeshObjectKind } from "@tulle/mesh/convert";
import {
  AUTHORIZATION_POLICY,
  ENDPOINT_SLICE,
  GATEWAY,
  GATEWAY_CLASS,
  type KubeObject,
  NAMESPACE,
  NODE,
  type ObjectRef,
  PEER_AUTHENTICATION,
  POD,
  type ResourceKind,
  SERVICE,
  SERVICE_ENTRY,
  type Store,
  type Watch,
  WORKLOAD_ENTRY,
} from "@tulle/store";

export interface MeshWatchesOptions {
  readonly store: Store;
  readonly onPut: (kind: MeshObjectKind, object: KubeObject) => void;
  readonly onGone: (kind: MeshObjectKind, object: KubeObject) => void;
}

export interface WatchProblem {
  readonly kind: MeshObjectKind;
  readonly problem: string;
}

const KINDS: Readonly<Record<MeshObjectKind, ResourceKind>> = {
  Namespace: NAMESPACE,
  Node: NODE,
  Pod: POD,
  Service: SERVICE,
  EndpointSlice: ENDPOINT_SLICE,
  ServiceEntry: SERVICE_ENTRY,
  WorkloadEntry: WORKLOAD_ENTRY,
  Gateway: GATEWAY,
  GatewayClass: GATEWAY_CLASS,
  AuthorizationPolicy: AUTHORIZATION_POLICY,
  PeerAuthentication: PEER_AUTHENTICATION,
};

/** Follows every kind of objects that the mesh is computed from. */
export class MeshWatches {
  readonly #watches: ReadonlyMap<MeshObjectKind, Watch<KubeObject>>;

  constructor({ store, onPut, onGone }: MeshWatchesOptions) {
    const entries = Object.entries(KINDS) as [MeshObjectKind, ResourceKind][];
    this.#watches = new Map(
      entries.map(([kind, resource]) => [
        kind,
        store.watch(resource, {
          put: (object) => onPut(kind, object),
          gone: (object) => onGone(kind, object),
        }),
      ]),
    );
  }

  /** Resolves when the whole first state of every kind has been told. */
  async whenSynced(signal?: AbortSignal): Promise<void> {
    await Promise.all([...this.#watches.values()].map((watch) => watch.whenSynced(signal)));
  }

  get(kind: MeshObjectKind, ref: ObjectRef): KubeObject | undefined {
    return this.#watches.get(kind)?.get(ref);
  }

  /** Objects of Istio's and the Gateway API's kinds: what users configure the mesh with. */
  *configuration(): Iterable<KubeObject> {
    for (const [kind, watch] of this.#watches)
      if (KINDS[kind].group !== "" && kind !== "EndpointSlice") yield* watch.values();
  }

  /** Kinds whose first state has not come yet. */
  get unsynced(): MeshObjectKind[] {
    return [...this.#watches].flatMap(([kind, { state }]) => (state.synced ? [] : [kind]));
  }

  /** Kinds that cannot be followed at the moment, and why; what was known of them stays. */
  get problems(): WatchProblem[] {
    return [...this.#watches].flatMap(([kind, { state }]) =>
      state.problem === undefined ? [] : [{ kind, problem: state.problem }],
    );
  }

  close(): void {
    for (const watch of this.#watches.values()) watch.close();
  }
}
