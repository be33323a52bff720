import type { MeshObjectKind } from "./context.ts";
import type {
  KubeEndpointSlice,
  KubeGateway,
  KubeGatewayClass,
  KubeServiceEntry,
  KubeWorkloadEntry,
} from "./istio-objects.ts";
import {
  type KubeNamespace,
  type KubeNode,
  type KubeObjectLike,
  type KubePod,
  type KubePolicy,
  type KubeService,
  keyOf,
  nameOf,
  namespaceOf,
} from "./kubernetes.ts";
import { withoutNulls } from "./same.ts";

export interface ObjectsByKind {
  readonly Namespace: KubeNamespace;
  readonly Node: KubeNode;
  readonly Pod: KubePod;
  readonly Service: KubeService;
  readonly EndpointSlice: KubeEndpointSlice;
  readonly ServiceEntry: KubeServiceEntry;
  readonly WorkloadEntry: KubeWorkloadEntry;
  readonly Gateway: KubeGateway;
  readonly GatewayClass: KubeGatewayClass;
  readonly AuthorizationPolicy: KubePolicy;
  readonly PeerAuthentication: KubePolicy;
}

/** An object that is another than at the last look, or gone. */
export type ObjectChange = { readonly [K in MeshObjectKind]: ChangeOf<K> }[MeshObjectKind];

export interface ChangeOf<K extends MeshObjectKind> {
  readonly kind: K;
  /** `namespace/name`. */
  readonly key: string;
  readonly before: ObjectsByKind[K] | undefined;
  readonly after: ObjectsByKind[K] | undefined;
}

export const MESH_OBJECT_KINDS: readonly MeshObjectKind[] = [
  "Namespace",
  "Node",
  "Pod",
  "Service",
  "EndpointSlice",
  "ServiceEntry",
  "WorkloadEntry",
  "Gateway",
  "GatewayClass",
  "AuthorizationPolicy",
  "PeerAuthentication",
];

type Table = Map<string, Map<string, KubeObjectLike>>;

/** The objects, by kind, namespace and name, and which of them changed. */
export class MeshObjects {
  readonly #tables = new Map<MeshObjectKind, Table>(MESH_OBJECT_KINDS.map((kind) => [kind, new Map()]));
  #pending = new Map<
    string,
    { kind: MeshObjectKind; namespace: string; name: string; after: KubeObjectLike | undefined }
  >();

  put(kind: MeshObjectKind, object: KubeObjectLike): void {
    const [namespace, name] = [namespaceOf(object), nameOf(object)];
    this.#pending.set(`${kind} ${namespace}/${name}`, { kind, namespace, name, after: object });
  }

  remove(kind: MeshObjectKind, namespace: string, name: string): void {
    this.#pending.set(`${kind} ${namespace}/${name}`, { kind, namespace, name, after: undefined });
  }

  /** What changed since it was asked last. Only from here on the objects are the new ones. */
  take(): readonly ObjectChange[] {
    const changes: ObjectChange[] = [];
    for (const { kind, namespace, name, after: given } of this.#pending.values()) {
      // Policies read what is null with care of their own.
      const asIs = kind === "AuthorizationPolicy" || kind === "PeerAuthentication";
      const after = given === undefined || asIs ? given : withoutNulls(given);
      const table = this.#table(kind);
      const before = table.get(namespace)?.get(name);
      if (before === after) continue;
      if (after === undefined) drop(table, namespace, name);
      else add(table, namespace, name, after);
      changes.push({ kind, key: `${namespace}/${name}`, before, after } as ObjectChange);
    }
    this.#pending = new Map();
    return changes;
  }

  get<K extends MeshObjectKind>(kind: K, key: string): ObjectsByKind[K] | undefined {
    const slash = key.indexOf("/");
    return this.#table(kind)
      .get(key.slice(0, slash))
      ?.get(key.slice(slash + 1)) as ObjectsByKind[K] | undefined;
  }

  /** Kinds without namespace are in the namespace "". */
  inNamespace<K extends MeshObjectKind>(kind: K, namespace: string): Iterable<ObjectsByKind[K]> {
    return (this.#table(kind).get(namespace)?.values() ?? []) as Iterable<ObjectsByKind[K]>;
  }

  *all<K extends MeshObjectKind>(kind: K): Iterable<ObjectsByKind[K]> {
    for (const namespace of this.#table(kind).values()) yield* namespace.values() as Iterable<ObjectsByKind[K]>;
  }

  *keys(kind: MeshObjectKind, namespace?: string): Iterable<string> {
    const objects = namespace === undefined ? this.all(kind) : this.inNamespace(kind, namespace);
    for (const object of objects) yield keyOf(object);
  }

  count(kind: MeshObjectKind): number {
    let count = 0;
    for (const { size } of this.#table(kind).values()) count += size;
    return count;
  }

  #table(kind: MeshObjectKind): Table {
    const table = this.#tables.get(kind);
    if (table === undefined) throw new Error(`kind ${kind} is not one of the mesh's`);
    return table;
  }
}

function add(table: Table, namespace: string, name: string, object: KubeObjectLike): void {
  const objects = table.get(namespace);
  if (objects === undefined) table.set(namespace, new Map([[name, object]]));
  else objects.set(name, object);
}

function drop(table: Table, namespace: string, name: string): void {
  const objects = table.get(namespace);
  objects?.delete(name);
  if (objects?.size === 0) table.delete(namespace);
}
