import { convert } from "../convert.ts";
import { type PutChange, resourceKey } from "../resource-log.ts";
import { encodeResource } from "../wds.ts";
import type { MeshObjectKind, MeshSettings, ObjectStatus } from "./context.ts";
import {
  type KubeNamespace,
  type KubeNode,
  type KubeObjectLike,
  type KubePod,
  type KubePolicy,
  type KubeService,
  keyOf,
} from "./kubernetes.ts";

/** What a flush found to be different from the flush before. */
export interface MeshChanges {
  /** Policies, services, workloads: what others name comes first. */
  readonly puts: readonly PutChange[];
  /** Workloads (uid), services (`namespace/hostname`), policies (`namespace/name`). */
  readonly removes: readonly { readonly kind: PutChange["kind"]; readonly key: string }[];
  /** Of objects whose conditions changed. Nothing is said of objects that are gone. */
  readonly statuses: readonly ObjectStatus[];
}

/** For metrics. */
export interface MeshSizes {
  readonly objects: Readonly<Record<MeshObjectKind, number>>;
  readonly resources: Readonly<Record<PutChange["kind"], number>>;
}

interface Known {
  readonly kind: PutChange["kind"];
  readonly key: string;
  readonly bytes: string;
}

/** The mesh, followed object by object. */
export class MeshIndex {
  #settings: MeshSettings;
  readonly #objects: Readonly<Record<MeshObjectKind, Map<string, KubeObjectLike>>> = {
    Namespace: new Map(),
    Node: new Map(),
    Pod: new Map(),
    Service: new Map(),
    EndpointSlice: new Map(),
    ServiceEntry: new Map(),
    WorkloadEntry: new Map(),
    Gateway: new Map(),
    GatewayClass: new Map(),
    AuthorizationPolicy: new Map(),
    PeerAuthentication: new Map(),
  };
  #known: ReadonlyMap<string, Known> = new Map();
  #statuses = new Map<string, ObjectStatus>();

  constructor(settings: MeshSettings) {
    this.#settings = settings;
  }

  /** The object is new or another than before. Nothing is computed yet. */
  put(kind: MeshObjectKind, object: KubeObjectLike): void {
    this.#objects[kind].set(keyOf(object), object);
  }

  /** Cluster-scoped kinds have the namespace "". */
  remove(kind: MeshObjectKind, namespace: string, name: string): void {
    this.#objects[kind].delete(`${namespace}/${name}`);
  }

  /** The configuration of the mesh changed: everything is due. */
  reconfigure(settings: MeshSettings): void {
    this.#settings = settings;
  }

  flush(): MeshChanges {
    const objects = this.#objects;
    const { resources, statuses } = convert(
      {
        namespaces: [...objects.Namespace.values()] as KubeNamespace[],
        nodes: [...objects.Node.values()] as KubeNode[],
        pods: [...objects.Pod.values()] as KubePod[],
        services: [...objects.Service.values()] as KubeService[],
        authorizationPolicies: [...objects.AuthorizationPolicy.values()] as KubePolicy[],
        peerAuthentications: [...objects.PeerAuthentication.values()] as KubePolicy[],
      },
      this.#settings,
    );
    const next = new Map<string, Known>();
    const puts: PutChange[] = [];
    for (const change of resources) {
      const key = resourceKey(change);
      const bytes = Buffer.from(encodeResource(change).value).toString("latin1");
      next.set(`${change.kind} ${key}`, { kind: change.kind, key, bytes });
      if (this.#known.get(`${change.kind} ${key}`)?.bytes !== bytes) puts.push(change);
    }
    const removes = [...this.#known].filter(([id]) => !next.has(id)).map(([, { kind, key }]) => ({ kind, key }));
    this.#known = next;
    const said = new Map(statuses.map((status) => [`${status.kind} ${status.namespace}/${status.name}`, status]));
    const changed = statuses.filter((status) => {
      const known = this.#statuses.get(`${status.kind} ${status.namespace}/${status.name}`);
      return JSON.stringify(known?.conditions) !== JSON.stringify(status.conditions);
    });
    for (const [id, status] of this.#statuses) {
      const exists = this.#objects[status.kind].has(`${status.namespace}/${status.name}`);
      if (!said.has(id) && exists) changed.push({ ...status, conditions: [] });
    }
    this.#statuses = said;
    return { puts, removes, statuses: changed };
  }

  get sizes(): MeshSizes {
    const resources = { workload: 0, service: 0, policy: 0 };
    for (const { kind } of this.#known.values()) resources[kind] += 1;
    const objects = Object.fromEntries(Object.entries(this.#objects).map(([kind, { size }]) => [kind, size]));
    return { objects: objects as MeshSizes["objects"], resources };
  }
}
