import { randomUUID } from "node:crypto";
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
  readonly kind: ResourceKind;
  readonly selection: Selection;
  readonly handler: WatchHandler<KubeObject>;
  closed: boolean;
}

/** A Store in memory that tells its watches at once, and can be made to fail. Apply and merge patches merge maps. */
export class MemoryStore implements Store {
  readonly name = "memory";
  readonly events: (EventInput & { readonly about: string })[] = [];
  /** Called before every write; what it throws is the answer. */
  onWrite: (verb: string, kind: ResourceKind, object: KubeObject | ObjectRef) => void | Promise<void> = () => undefined;
  /** The answer to `create` of kinds that are not kept (TokenReview). */
  readonly answers = new Map<string, (object: KubeObject) => KubeObject | Promise<KubeObject>>();
  readonly #objects = new Map<string, KubeObject>();
  readonly #followers = new Set<Follower>();
  /** Watches of these kinds give nothing yet. */
  readonly #held = new Set<string>();
  #version = 0;

  /** Puts an object there as a user would. */
  put<T extends KubeObject>(kind: ResourceKind<T>, object: T): T {
    const id = idOf(kind, object.metadata);
    const known = this.#objects.get(id);
    const uid = object.metadata.uid ?? known?.metadata.uid ?? randomUUID();
    const metadata = { ...object.metadata, uid, resourceVersion: String(++this.#version) };
    const stored = { ...object, metadata } as T;
    this.#objects.set(id, stored);
    this.#tell(kind, stored, "put");
    return stored;
  }

  drop(kind: ResourceKind, ref: ObjectRef): void {
    const id = idOf(kind, ref);
    const known = this.#objects.get(id);
    this.#objects.delete(id);
    if (known !== undefined) this.#tell(kind, known, "gone");
  }

  find<T extends KubeObject>(kind: ResourceKind<T>, ref: ObjectRef): T | undefined {
    return this.#objects.get(idOf(kind, ref)) as T | undefined;
  }

  /** Watches of the kind that are opened from now on are not synced until `release`. */
  hold(kind: ResourceKind): void {
    this.#held.add(kind.plural);
  }

  release(kind: ResourceKind): void {
    this.#held.delete(kind.plural);
    for (const follower of this.#followers) if (follower.kind.plural === kind.plural) this.#sync(follower);
  }

  list<T extends KubeObject>(kind: ResourceKind<T>, selection: Selection = {}): Promise<readonly T[]> {
    return Promise.resolve(this.#select(kind, selection) as T[]);
  }

  get<T extends KubeObject>(kind: ResourceKind<T>, ref: ObjectRef): Promise<T | undefined> {
    return Promise.resolve(this.find(kind, ref));
  }

  watch<T extends KubeObject>(kind: ResourceKind<T>, handler: WatchHandler<T>, selection: Selection = {}): Watch<T> {
    const follower: Follower = { kind, selection, handler, closed: false };
    this.#followers.add(follower);
    const synced = Promise.withResolvers<void>();
    synced.promise.catch(() => undefined);
    const inner = follower.handler;
    let isSynced = false;
    Object.assign(follower, {
      handler: {
        put: (object: KubeObject) => inner.put(object),
        gone: (object: KubeObject) => inner.gone(object),
        synced: () => {
          isSynced = true;
          inner.synced?.();
          synced.resolve();
        },
      },
    });
    if (!this.#held.has(kind.plural)) queueMicrotask(() => this.#sync(follower));
    const close = () => {
      follower.closed = true;
      this.#followers.delete(follower);
      if (!isSynced) synced.reject(new StoreError("UNAVAILABLE", "closed"));
    };
    const values = () => this.#select(kind, selection) as T[];
    return {
      get state() {
        return { synced: isSynced, problem: undefined, lastHeard: 0 };
      },
      get: (ref) => this.find(kind, ref),
      values,
      get size() {
        return values().length;
      },
      whenSynced: () => synced.promise,
      close,
      [Symbol.dispose]: close,
    };
  }

  async create<T extends KubeObject>(kind: ResourceKind<T>, object: T): Promise<T> {
    await this.onWrite("create", kind, object);
    const answer = this.answers.get(kind.plural);
    if (answer !== undefined) return (await answer(object)) as T;
    if (this.find(kind, object.metadata) !== undefined)
      throw new StoreError("EXISTS", `${kind.plural} is there already`);
    return this.put(kind, object);
  }

  async apply<T extends KubeObject>(kind: ResourceKind<T>, object: KubeObject, _options: ApplyOptions): Promise<T> {
    await this.onWrite("apply", kind, object);
    return this.put(kind, merge(this.find(kind, object.metadata) ?? {}, object) as unknown as T);
  }

  async patch<T extends KubeObject>(kind: ResourceKind<T>, ref: ObjectRef, patch: Patch): Promise<T> {
    await this.onWrite("patch", kind, ref);
    const known = this.find(kind, ref);
    if (known === undefined) throw new StoreError("NOT_FOUND", `${ref.name} is not there`);
    if (patch.type !== "merge") throw new StoreError("INVALID", "merge patches only");
    const { uid } = (patch.body["metadata"] ?? {}) as { uid?: string };
    if (uid !== undefined && uid !== known.metadata.uid) throw new StoreError("CONFLICT", "another uid");
    return this.put(kind, merge(known, patch.body) as unknown as T);
  }

  async delete(kind: ResourceKind, ref: ObjectRef): Promise<void> {
    await this.onWrite("delete", kind, ref);
    this.drop(kind, ref);
  }

  event(about: KubeObject, event: EventInput): void {
    this.events.push({ ...event, about: `${about.metadata.namespace ?? ""}/${about.metadata.name}` });
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#followers.clear();
    return Promise.resolve();
  }

  #sync(follower: Follower): void {
    if (follower.closed) return;
    for (const object of this.#select(follower.kind, follower.selection)) follower.handler.put(object);
    follower.handler.synced?.();
  }

  #tell(kind: ResourceKind, object: KubeObject, what: "put" | "gone"): void {
    for (const follower of this.#followers) {
      if (follower.kind.plural !== kind.plural || this.#held.has(kind.plural)) continue;
      if (matches(object, follower.selection)) follower.handler[what](object);
    }
  }

  #select(kind: ResourceKind, selection: Selection): KubeObject[] {
    const prefix = `${kind.plural} `;
    return [...this.#objects].flatMap(([id, object]) =>
      id.startsWith(prefix) && matches(object, selection) ? [object] : [],
    );
  }
}

function matches({ metadata }: KubeObject, { namespace, labels = {}, fields = {} }: Selection): boolean {
  if (namespace !== undefined && metadata.namespace !== namespace) return false;
  if (Object.entries(labels).some(([name, value]) => metadata.labels?.[name] !== value)) return false;
  return Object.entries(fields).every(([name, value]) => name !== "metadata.name" || metadata.name === value);
}

function idOf(kind: ResourceKind, { namespace, name }: ObjectRef): string {
  return `${kind.plural} ${kind.namespaced ? namespace : ""}/${name}`;
}

function merge(into: Readonly<Record<string, unknown>>, from: Readonly<Record<string, unknown>>) {
  const merged: Record<string, unknown> = { ...into };
  for (const [key, value] of Object.entries(from)) {
    const old = merged[key];
    if (value === null) delete merged[key];
    else if (isMap(value) && isMap(old)) merged[key] = merge(old, value);
    else merged[key] = value;
  }
  return merged;
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
