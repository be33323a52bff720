import {
  type ApplyOptions,
  type EventInput,
  type KubeObject,
  type ObjectRef,
  type Patch,
  type ResourceKind,
  type Selection,
  type Store,
  StoreError,
  type Watch,
  type WatchHandler,
} from "@tulle/store";

interface Follower {
  readonly kind: string;
  readonly selection: Selection | undefined;
  readonly handler: WatchHandler<KubeObject>;
}

/** Objects in memory behind the store's contract, as far as the node agent uses it. */
export class MemoryStore implements Store {
  readonly name = "memory";
  readonly events: (EventInput & { readonly about: string })[] = [];
  /** While set, every write, `get` and `list` fails with it. */
  failing: StoreError | undefined;
  readonly #objects = new Map<string, KubeObject>();
  readonly #followers = new Set<Follower>();
  #version = 0;

  put<T extends KubeObject>(object: T): T {
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } };
    const key = keyOf(object.kind, object.metadata);
    const before = this.#objects.get(key);
    this.#objects.set(key, stored);
    this.#tell(object.kind, stored, before);
    return stored;
  }

  remove(kind: string, ref: ObjectRef): void {
    const key = keyOf(kind, ref);
    const object = this.#objects.get(key);
    this.#objects.delete(key);
    if (object === undefined) return;
    for (const { kind: wanted, selection, handler } of this.#followers) {
      if (wanted === kind && selects(selection, object)) queueMicrotask(() => handler.gone(object));
    }
  }

  find<T extends KubeObject>(kind: ResourceKind<T>, ref: ObjectRef): T | undefined {
    return this.#objects.get(keyOf(kind.kind, ref)) as T | undefined;
  }

  async list<T extends KubeObject>(kind: ResourceKind<T>, selection?: Selection): Promise<readonly T[]> {
    if (this.failing !== undefined) throw this.failing;
    return this.#all(kind.kind, selection) as T[];
  }

  async get<T extends KubeObject>(kind: ResourceKind<T>, ref: ObjectRef): Promise<T | undefined> {
    if (this.failing !== undefined) throw this.failing;
    return this.find(kind, ref);
  }

  watch<T extends KubeObject>(kind: ResourceKind<T>, handler: WatchHandler<T>, selection?: Selection): Watch<T> {
    const follower = { kind: kind.kind, selection, handler: handler as unknown as WatchHandler<KubeObject> };
    for (const object of this.#all(kind.kind, selection)) follower.handler.put(object);
    this.#followers.add(follower);
    const values = () => this.#all(kind.kind, selection) as T[];
    const close = () => void this.#followers.delete(follower);
    return {
      state: { synced: true, problem: undefined, lastHeard: Date.now() },
      get: (ref) => values().find(({ metadata }) => metadata.name === ref.name && metadata.namespace === ref.namespace),
      values,
      get size() {
        return values().length;
      },
      whenSynced: () => Promise.resolve(),
      close,
      [Symbol.dispose]: close,
    };
  }

  create(): Promise<never> {
    return Promise.reject(new StoreError("INVALID", "the node agent creates nothing"));
  }

  async patch<T extends KubeObject>(kind: ResourceKind<T>, ref: ObjectRef, patch: Patch): Promise<T> {
    const object = this.#writable(kind, ref);
    if (patch.type !== "merge") throw new StoreError("INVALID", "only merge patches");
    const { metadata } = patch.body as { readonly metadata?: { readonly uid?: string } };
    if (metadata?.uid !== undefined && metadata.uid !== object.metadata.uid)
      throw new StoreError("CONFLICT", "another uid");
    return this.put(merge(object, patch.body) as T);
  }

  async apply<T extends KubeObject>(kind: ResourceKind<T>, applied: KubeObject, _options: ApplyOptions): Promise<T> {
    const object = this.#writable(kind, applied.metadata);
    const { conditions = [] } = (applied.status ?? {}) as {
      readonly conditions?: readonly { readonly type: string }[];
    };
    const status = (object.status ?? {}) as { readonly conditions?: readonly { readonly type: string }[] };
    const others = (status.conditions ?? []).filter(({ type }) => type !== "ambient.tulle.dev/Captured");
    return this.put({ ...object, status: { ...status, conditions: [...others, ...conditions] } });
  }

  delete(): Promise<void> {
    return Promise.reject(new StoreError("INVALID", "the node agent deletes nothing"));
  }

  event(about: KubeObject, event: EventInput): void {
    this.events.push({ ...event, about: about.metadata.name });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#followers.clear();
  }

  #writable<T extends KubeObject>(kind: ResourceKind<T>, ref: ObjectRef): T {
    if (this.failing !== undefined) throw this.failing;
    const object = this.find(kind, ref);
    if (object === undefined) throw new StoreError("NOT_FOUND", `${ref.name} does not exist`);
    return object;
  }

  #all(kind: string, selection: Selection | undefined): KubeObject[] {
    return [...this.#objects.values()].filter((object) => object.kind === kind && selects(selection, object));
  }

  #tell(kind: string, object: KubeObject, before: KubeObject | undefined): void {
    for (const { kind: wanted, selection, handler } of this.#followers) {
      if (wanted !== kind) continue;
      if (selects(selection, object)) queueMicrotask(() => handler.put(object));
      else if (before !== undefined && selects(selection, before)) queueMicrotask(() => handler.gone(before));
    }
  }
}

function keyOf(kind: string, { namespace = "", name }: ObjectRef): string {
  return `${kind} ${namespace}/${name}`;
}

function selects(selection: Selection | undefined, object: KubeObject): boolean {
  const { labels = {}, fields = {}, namespace } = selection ?? {};
  const node = (object.spec as { readonly nodeName?: string } | undefined)?.nodeName;
  return (
    (namespace === undefined || object.metadata.namespace === namespace) &&
    Object.entries(labels).every(([key, value]) => object.metadata.labels?.[key] === value) &&
    (fields["spec.nodeName"] === undefined || fields["spec.nodeName"] === node)
  );
}

/** RFC 7386. */
function merge(target: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> = { ...(typeof target === "object" ? target : {}) };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merge(result[key], value);
  }
  return result;
}
