import { type Log, messageOf } from "@tulle/base";
import {
  type KubeObject,
  type ObjectRef,
  StoreError,
  type Watch,
  type WatchHandler,
  type WatchState,
} from "./contract.ts";

/**
 * The objects of a watch, and what its handler has been told: both stores feed it, so the rules of delivery exist once. An
 * object is delivered when its uid or resourceVersion differs from what was delivered before. A handler that throws is
 * logged and does not end the watch. As many objects are held as the selection has: the cluster is the only bound.
 */
export class FollowedObjects<T extends KubeObject> implements Watch<T> {
  readonly #handler: WatchHandler<T>;
  readonly #objects = new Map<string, T>();
  readonly #log: Log;
  readonly #what: string;
  readonly #onClose: () => void;
  readonly #waiters = new Set<{ resolve(): void; reject(error: unknown): void }>();
  #synced = false;
  #closed = false;
  #problem: string | undefined;
  #lastHeard = 0;

  constructor(options: {
    readonly handler: WatchHandler<T>;
    readonly log: Log;
    /** For messages: `watch pods`. */
    readonly what: string;
    readonly onClose: () => void;
  }) {
    this.#handler = options.handler;
    this.#log = options.log;
    this.#what = options.what;
    this.#onClose = options.onClose;
  }

  get state(): WatchState {
    return { synced: this.#synced, problem: this.#problem, lastHeard: this.#lastHeard };
  }

  get size(): number {
    return this.#objects.size;
  }

  get closed(): boolean {
    return this.#closed;
  }

  get(ref: ObjectRef): T | undefined {
    return this.#objects.get(keyOf(ref));
  }

  values(): Iterable<T> {
    return this.#objects.values();
  }

  whenSynced(signal?: AbortSignal): Promise<void> {
    if (this.#synced) return Promise.resolve();
    if (this.#closed) return Promise.reject(this.#notSynced("was closed"));
    if (signal?.aborted) return Promise.reject(this.#notSynced("has no complete state yet"));
    return new Promise((resolve, reject) => {
      const finish = (act: () => void) => {
        this.#waiters.delete(waiter);
        signal?.removeEventListener("abort", abort);
        act();
      };
      const waiter = { resolve: () => finish(resolve), reject: (error: unknown) => finish(() => reject(error)) };
      const abort = () => waiter.reject(this.#notSynced("has no complete state yet"));
      signal?.addEventListener("abort", abort, { once: true });
      this.#waiters.add(waiter);
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const waiter of this.#waiters) waiter.reject(this.#notSynced("was closed"));
    this.#onClose();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The source said something; with a text, that it cannot be followed now. */
  heard(wall: number): void {
    this.#lastHeard = wall;
  }

  setProblem(problem: string | undefined): void {
    this.#problem = problem;
  }

  put(object: T): void {
    if (this.#closed) return;
    const key = keyOf(object.metadata);
    const before = this.#objects.get(key);
    if (before !== undefined) {
      const { uid, resourceVersion } = before.metadata;
      if (uid === object.metadata.uid && resourceVersion === object.metadata.resourceVersion) return;
      // Deleted and made again while nobody looked.
      if (uid !== object.metadata.uid) this.remove(before.metadata, before);
      if (this.#closed) return;
    }
    this.#objects.set(key, object);
    this.#tell("put", object);
  }

  /** `last` is the state at the deletion, if the source tells it. */
  remove(ref: ObjectRef, last?: T): void {
    if (this.#closed) return;
    const key = keyOf(ref);
    const before = this.#objects.get(key);
    if (before === undefined) return;
    this.#objects.delete(key);
    this.#tell("gone", last ?? before);
  }

  /** The complete state: only what differs from before is told. The first one makes the watch synced. */
  replace(objects: readonly T[]): void {
    const kept = new Set(objects.map((object) => keyOf(object.metadata)));
    for (const object of [...this.#objects.values()]) {
      if (!kept.has(keyOf(object.metadata))) this.remove(object.metadata);
    }
    for (const object of objects) this.put(object);
    if (this.#synced || this.#closed) return;
    this.#synced = true;
    this.#guard(() => this.#handler.synced?.());
    for (const waiter of this.#waiters) waiter.resolve();
  }

  #tell(what: "put" | "gone", object: T): void {
    this.#guard(() => this.#handler[what](object));
  }

  #guard(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#log.error("a handler of a watch failed", { watch: this.#what, error: messageOf(error) });
    }
  }

  #notSynced(why: string): StoreError {
    const problem = this.#problem === undefined ? "" : `: ${this.#problem}`;
    return new StoreError("UNAVAILABLE", `${this.#what} ${why}${problem}`);
  }
}

function keyOf(ref: ObjectRef): string {
  return `${ref.namespace ?? ""}/${ref.name}`;
}
