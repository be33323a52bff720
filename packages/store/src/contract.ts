import { MeshError } from "@tulle/base";

/**
 * Resources as every part of Tulle sees them, whether they live in a Kubernetes API server or in a directory of YAML.
 * Objects are plain JSON as the API has them; what a watch or a list gives is frozen by agreement: never change it.
 */

export interface ObjectMeta {
  /** May be empty when created with `generateName`, and in reviews. */
  readonly name: string;
  /** Missing on cluster-scoped kinds. */
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly generateName?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly ownerReferences?: readonly OwnerReference[];
  readonly finalizers?: readonly string[];
}

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
}

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
  readonly [field: string]: unknown;
}

/** A kind of resources and the objects that it holds. */
export interface ResourceKind<T extends KubeObject = KubeObject> {
  /** `""` is the core group. */
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  /** Name in paths: `pods`. */
  readonly plural: string;
  readonly namespaced: boolean;
  /** Never there: carries the type of the objects. */
  readonly objectType?: T;
}

export interface ObjectRef {
  readonly namespace?: string;
  readonly name: string;
}

/** Which objects of a kind. Default: all. */
export interface Selection {
  readonly namespace?: string;
  /** Every label must be there with this value. */
  readonly labels?: Readonly<Record<string, string>>;
  /** `spec.nodeName`, `metadata.name` and the like, equal to this value. */
  readonly fields?: Readonly<Record<string, string>>;
}

export interface WatchHandler<T> {
  /** The object is new or differs from what was given before. */
  put(object: T): void;
  /** The object is gone; its last known state. */
  gone(object: T): void;
  /** The first complete state has been given. Once. */
  synced?(): void;
}

export interface WatchState {
  /** Whether the first complete state has been given. */
  readonly synced: boolean;
  /** Why the source cannot be followed at the moment; the last known state stays. Undefined: all is well. */
  readonly problem: string | undefined;
  /** `Date.now()` of the last word from the source. */
  readonly lastHeard: number;
}

/** A followed selection with the objects that it holds. Reconnects, re-lists and resumes by itself until closed. */
export interface Watch<T extends KubeObject> extends Disposable {
  readonly state: WatchState;
  get(ref: ObjectRef): T | undefined;
  values(): Iterable<T>;
  readonly size: number;
  /** Resolves at the first complete state. Rejects when closed before, or when the signal aborts. */
  whenSynced(signal?: AbortSignal): Promise<void>;
  close(): void;
}

export interface WriteOptions {
  /** `status`: the sub-resource. Default: the object itself. */
  readonly subresource?: "status";
  readonly signal?: AbortSignal;
}

export interface ApplyOptions extends WriteOptions {
  /** Who applies: an object's fields that the same manager applied before and now omits are removed. */
  readonly manager: string;
  /** Take fields over from other managers. Default true, as controllers do. */
  readonly force?: boolean;
}

/** JSON merge patch (RFC 7386) or JSON patch (RFC 6902). */
export type Patch =
  | { readonly type: "merge"; readonly body: Readonly<Record<string, unknown>> }
  | { readonly type: "json"; readonly body: readonly JsonPatchOperation[] };

export type JsonPatchOperation =
  | { readonly op: "add" | "replace" | "test"; readonly path: string; readonly value: unknown }
  | { readonly op: "remove"; readonly path: string };

export interface EventInput {
  readonly type: "Normal" | "Warning";
  /** Upper camel case, stable: `CaptureLost`. */
  readonly reason: string;
  readonly message: string;
}

/**
 * One place of resources. Every promise rejects with StoreError, and only with it; nothing waits longer than the
 * implementation's request timeout.
 */
export interface Store extends AsyncDisposable {
  /** `kubernetes`, or `directory`. */
  readonly name: string;
  list<T extends KubeObject>(kind: ResourceKind<T>, selection?: Selection): Promise<readonly T[]>;
  /** Undefined when there is none. */
  get<T extends KubeObject>(kind: ResourceKind<T>, ref: ObjectRef): Promise<T | undefined>;
  /**
   * Follows from now on. A kind whose CRD is not installed is an empty state until it is. The handler is called one object
   * at a time, never from within `watch` or a write; what it throws is logged.
   */
  watch<T extends KubeObject>(kind: ResourceKind<T>, handler: WatchHandler<T>, selection?: Selection): Watch<T>;
  /** Status is not taken: it is written through its sub-resource. */
  create<T extends KubeObject>(kind: ResourceKind<T>, object: T): Promise<T>;
  /** Server-side apply: the fields of `object` and no others are the manager's. Creates the object if need be. */
  apply<T extends KubeObject>(kind: ResourceKind<T>, object: KubeObject, options: ApplyOptions): Promise<T>;
  patch<T extends KubeObject>(kind: ResourceKind<T>, ref: ObjectRef, patch: Patch, options?: WriteOptions): Promise<T>;
  /** Gone already is well. With `uid`, only that object: when the name is another's by now, that is well too. */
  delete(kind: ResourceKind, ref: ObjectRef, options?: { readonly uid?: string }): Promise<void>;
  /** Tells of something that happened to an object. Repetitions are counted in one Event, and their rate is bounded; never rejects. */
  event(about: KubeObject, event: EventInput): void;
}

export type StoreErrorCode =
  | "NOT_FOUND"
  /** The object changed in between, or a `test` failed. */
  | "CONFLICT"
  | "EXISTS"
  /** The object or patch is refused: the message says which field. */
  | "INVALID"
  | "FORBIDDEN"
  /** No answer in time, no connection, overload. */
  | "UNAVAILABLE";

export class StoreError extends MeshError {
  declare readonly code: StoreErrorCode;

  constructor(code: StoreErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? { code, side: "upstream" } : { code, side: "upstream", cause });
    this.name = "StoreError";
  }
}
