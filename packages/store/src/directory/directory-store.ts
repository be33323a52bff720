import { type Clock, type Log, messageOf, type Random, silentLog, systemClock } from "@tulle/base";
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
  type WriteOptions,
} from "../contract.ts";
import { EventRecorder } from "../event-recorder.ts";
import { FollowedObjects } from "../followed-objects.ts";
import { apiVersionOf, EVENT, NAMESPACE, resourceName, SELF_SUBJECT_ACCESS_REVIEW, TOKEN_REVIEW } from "../kinds.ts";
import { checkRef, describe } from "../kube/kube-path.ts";
import { FolderWatch } from "./folder-watch.ts";
import { expiredEvents } from "./event-expiry.ts";
import { ImportSchedule } from "./import-schedule.ts";
import { Importer, type ImportResult, keyOf, type TogetherCheck } from "./importer.ts";
import { applyObject, createdRecord, type Moment, patchedRecord } from "./record-change.ts";
import { selects } from "./selection.ts";
import { type ObjectKey, StateFolder, type StateRecord } from "./state-folder.ts";
import { SETTLE_MS, UserDirectory } from "./user-directory.ts";
import type { DocumentCheck, Problem } from "./yaml-documents.ts";

export interface DirectoryStoreOptions {
  /** The user's YAML, only read. Undefined: only what Tulle writes. */
  readonly directory: string | undefined;
  /** What Tulle writes: made with mode 0700. All processes of one mesh name the same. */
  readonly state: string;
  /** Who writes: manager of patched fields, source of Events. */
  readonly component: string;
  readonly instance?: string;
  readonly log?: Log;
  readonly clock?: Clock;
  readonly random?: Random;
  /** Called with all that is wrong in the user's directory, whenever that changes. Default: the log. */
  readonly onProblems?: (problems: readonly Problem[]) => void;
  /** Called after each look at the user's directory. */
  readonly onImported?: (result: ImportResult) => void;
  /** Stricter than the store itself, as schemas and admission are on a cluster. Only one process should have a directory then. */
  readonly checks?: { readonly document?: DocumentCheck; readonly together?: TogetherCheck };
}

const EVENT_SWEEP_MS = 60_000;
/** Kinds that are questions, not objects. */
const NOT_KEPT = new Set<string>([TOKEN_REVIEW, SELF_SUBJECT_ACCESS_REVIEW].map(resourceName));

interface Follower {
  readonly group: string;
  readonly kind: string;
  readonly selection: Selection | undefined;
  readonly objects: FollowedObjects<KubeObject>;
  started: boolean;
}

/** The resources of a directory of YAML, merged with what Tulle's processes write beside them. */
export class DirectoryStore implements Store {
  readonly name = "directory";
  readonly #options: DirectoryStoreOptions;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #state: StateFolder;
  readonly #imports: ImportSchedule;
  readonly #events: EventRecorder;
  readonly #followers = new Set<Follower>();
  readonly #changes: { readonly before: StateRecord | undefined; readonly after: StateRecord | undefined }[] = [];
  #folders: FolderWatch[] = [];
  #sweepTimer: NodeJS.Timeout | undefined;
  #version = 0;
  #closed = false;

  /** Reads the directory and the state. Rejects with StoreError when the state folder cannot be used. */
  static async open(options: DirectoryStoreOptions): Promise<DirectoryStore> {
    const store = new DirectoryStore(options);
    await store.#imports.begin();
    return store;
  }

  private constructor(options: DirectoryStoreOptions) {
    this.#options = options;
    this.#log = options.log ?? silentLog;
    this.#clock = options.clock ?? systemClock;
    const random = options.random ?? Math.random;
    this.#state = new StateFolder(options.state, {
      log: this.#log,
      random,
      listener: (before, after) => this.#changed(before, after),
    });
    const importer = new Importer({
      directory:
        options.directory === undefined
          ? undefined
          : new UserDirectory(options.directory, this.#clock, options.checks?.document),
      state: this.#state,
      together: options.checks?.together,
      now: () => this.#now(),
      log: this.#log,
    });
    this.#imports = new ImportSchedule({
      importer,
      log: this.#log,
      onProblems: options.onProblems,
      onImported: options.onImported,
    });
    const { component, instance = "" } = options;
    this.#events = new EventRecorder({ store: this, component, instance, log: this.#log, clock: this.#clock, random });
  }

  /** What is wrong in the user's directory, as this process saw it last. */
  get problems(): readonly Problem[] {
    return this.#imports.problems;
  }

  /** Where the user declares an object: `details.yaml:12`. Undefined: Tulle made it. */
  declaredAt(kind: ResourceKind, ref: ObjectRef): string | undefined {
    const user = this.#state.get(keyFor(kind, ref))?.user;
    return user === undefined ? undefined : `${user.file}:${user.line}`;
  }

  async list<T extends KubeObject>(kind: ResourceKind<T>, selection?: Selection): Promise<readonly T[]> {
    this.#checkOpen(describe("list", kind, selection));
    this.#state.scan();
    return this.#select<T>(kind, selection);
  }

  async get<T extends KubeObject>(kind: ResourceKind<T>, ref: ObjectRef): Promise<T | undefined> {
    this.#checkOpen(describe("get", kind, ref));
    checkRef(kind, ref);
    return this.#state.get(keyFor(kind, ref))?.object as T | undefined;
  }

  watch<T extends KubeObject>(kind: ResourceKind<T>, handler: WatchHandler<T>, selection?: Selection): Watch<T> {
    const objects: FollowedObjects<T> = new FollowedObjects<T>({
      handler,
      log: this.#log,
      what: describe("watch", kind, selection),
      onClose: () => this.#followers.delete(follower),
    });
    const follower: Follower = {
      group: kind.group,
      kind: kind.kind,
      selection,
      objects,
      started: false,
    };
    if (this.#closed) {
      objects.close();
      return objects;
    }
    this.#followers.add(follower);
    this.#follow();
    // Handlers are never called from within `watch`, as with the other store.
    setImmediate(() => this.#start(follower, kind));
    return objects;
  }

  async create<T extends KubeObject>(kind: ResourceKind<T>, object: T): Promise<T> {
    const what = describe("create", kind, object.metadata);
    const wanted = this.#prepare(what, kind, object);
    const record = await this.#state.update(keyFor(kind, wanted.metadata), (before) => {
      if (before !== undefined) throw new StoreError("EXISTS", `${what}: it exists already`);
      return createdRecord(wanted, { writer: this.#patchWriter, now: this.#now() });
    });
    return objectOf(record) as T;
  }

  async apply<T extends KubeObject>(kind: ResourceKind<T>, object: KubeObject, options: ApplyOptions): Promise<T> {
    const what = describe("apply", kind, object.metadata);
    const wanted = this.#prepare(what, kind, object);
    const { manager, force = true, subresource, signal } = options;
    const change = (before: StateRecord | undefined): StateRecord => {
      if (before === undefined && subresource !== undefined)
        throw new StoreError("NOT_FOUND", `${what}: it does not exist`);
      return applyObject(before, wanted, { writer: `apply:${manager}`, force, subresource, now: this.#now() });
    };
    return objectOf(await this.#state.update(keyFor(kind, wanted.metadata), change, signal)) as T;
  }

  async patch<T extends KubeObject>(
    kind: ResourceKind<T>,
    ref: ObjectRef,
    patch: Patch,
    options: WriteOptions = {},
  ): Promise<T> {
    const what = describe("patch", kind, ref);
    this.#checkOpen(what);
    checkRef(kind, ref);
    const copy = clean(patch);
    const { subresource, signal } = options;
    const change = (before: StateRecord | undefined): StateRecord => {
      if (before === undefined) throw new StoreError("NOT_FOUND", `${what}: it does not exist`);
      return patchedRecord(before, copy, { writer: this.#patchWriter, subresource, now: this.#now() });
    };
    return objectOf(await this.#state.update(keyFor(kind, ref), change, signal)) as T;
  }

  /** Refused (FORBIDDEN) for what a user's file declares: it would only come back. */
  async delete(kind: ResourceKind, ref: ObjectRef, options: { readonly uid?: string } = {}): Promise<void> {
    const what = describe("delete", kind, ref);
    this.#checkOpen(what);
    checkRef(kind, ref);
    await this.#state.update(keyFor(kind, ref), (before) => {
      if (before === undefined) return undefined;
      if (options.uid !== undefined && options.uid !== before.object.metadata.uid) return before;
      if (before.user !== undefined) {
        const place = `${before.user.file}:${before.user.line}`;
        throw new StoreError("FORBIDDEN", `${what}: it is declared at ${place}; remove it there`);
      }
      return undefined;
    });
  }

  event(about: KubeObject, event: EventInput): void {
    if (!this.#closed) this.#events.record(about, event);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    await this.#events.close();
    this.#closed = true;
    for (const { objects } of [...this.#followers]) objects.close();
    for (const folder of this.#folders) folder.close();
    clearInterval(this.#sweepTimer);
    await this.#imports.close();
  }

  get #patchWriter(): string {
    return `patch:${this.#options.component}`;
  }

  #now(): Moment {
    const wall = this.#clock.wall();
    this.#version = Math.max(this.#version + 1, Math.floor(wall * 1000));
    return { wall, version: this.#version };
  }

  /** The object as it will be kept. Throws StoreError when it cannot be. */
  #prepare(what: string, kind: ResourceKind, object: KubeObject): KubeObject {
    this.#checkOpen(what);
    if (NOT_KEPT.has(resourceName(kind))) throw new StoreError("INVALID", `${what}: a directory answers no reviews`);
    const copy = clean(object);
    const { generateName } = copy.metadata;
    const name = copy.metadata.name || (generateName === undefined ? "" : `${generateName}${this.#suffix()}`);
    const wanted = { ...copy, apiVersion: apiVersionOf(kind), kind: kind.kind, metadata: { ...copy.metadata, name } };
    checkRef(kind, wanted.metadata);
    const namespace = kind.namespaced ? (wanted.metadata.namespace ?? "") : "";
    if (namespace === "") return wanted;
    if (this.#state.get({ group: "", kind: NAMESPACE.kind, namespace: "", name: namespace }) !== undefined)
      return wanted;
    throw new StoreError("NOT_FOUND", `${what}: there is no namespace ${namespace}`);
  }

  #suffix(): string {
    const random = this.#options.random ?? Math.random;
    return Math.floor(random() * 36 ** 5)
      .toString(36)
      .padStart(5, "0");
  }

  #select<T extends KubeObject>(kind: ResourceKind<T>, selection: Selection | undefined): readonly T[] {
    const found: T[] = [];
    for (const { object } of this.#state.records()) {
      if (isOf(object, kind) && selects(selection, object)) found.push(object as T);
    }
    const key = ({ metadata }: KubeObject) => `${metadata.namespace ?? ""}/${metadata.name}`;
    return found.sort((a, b) => (key(a) < key(b) ? -1 : 1));
  }

  #start<T extends KubeObject>(follower: Follower, kind: ResourceKind<T>): void {
    if (follower.objects.closed) return;
    follower.started = true;
    try {
      this.#state.scan();
      follower.objects.heard(this.#clock.wall());
      follower.objects.replace(this.#select(kind, follower.selection));
    } catch (error) {
      this.#stateProblem(error);
      follower.started = false;
      setTimeout(() => this.#start(follower, kind), SETTLE_MS).unref();
    }
  }

  /** From the first watch on, the folders are watched. */
  #follow(): void {
    if (this.#folders.length > 0) return;
    const { directory } = this.#options;
    const stateChanged = (file: string | undefined) => {
      try {
        if (file === undefined) this.#state.scan();
        else this.#state.refresh(file);
        const wall = this.#clock.wall();
        for (const { objects } of this.#followers) {
          objects.heard(wall);
          objects.setProblem(undefined);
        }
      } catch (error) {
        this.#stateProblem(error);
      }
    };
    this.#folders = [new FolderWatch(this.#state.objectsPath, stateChanged, this.#log)];
    if (directory !== undefined) this.#folders.push(new FolderWatch(directory, () => this.#imports.soon(), this.#log));
    this.#sweepTimer = setInterval(() => void this.#sweepEvents(), EVENT_SWEEP_MS);
    this.#imports.soon();
  }

  #stateProblem(error: unknown): void {
    const problem = `cannot read the state folder: ${messageOf(error)}`;
    for (const { objects } of this.#followers) {
      if (objects.state.problem === undefined) this.#log.warn("cannot follow a directory", { problem });
      objects.setProblem(problem);
    }
  }

  #changed(before: StateRecord | undefined, after: StateRecord | undefined): void {
    this.#changes.push({ before, after });
    // Not from within the write that caused it: the writer goes on first.
    if (this.#changes.length === 1) queueMicrotask(() => this.#deliver());
  }

  #deliver(): void {
    for (const { before, after } of this.#changes.splice(0)) {
      const object = after?.object ?? before?.object;
      if (object === undefined) continue;
      for (const { group, kind, selection, objects, started } of this.#followers) {
        if (!started || !isOf(object, { group, kind })) continue;
        if (after !== undefined && selects(selection, object)) objects.put(object);
        else objects.remove(object.metadata, object);
      }
    }
  }

  async #sweepEvents(): Promise<void> {
    try {
      for (const { metadata } of expiredEvents(this.#select(EVENT, undefined), this.#clock.wall())) {
        if (!this.#closed) await this.delete(EVENT, metadata);
      }
    } catch (error) {
      this.#log.debug("old events stay a while", { error: messageOf(error) });
    }
  }

  #checkOpen(what: string): void {
    if (this.#closed) throw new StoreError("UNAVAILABLE", `${what}: the store is closed`);
  }
}

function keyFor(kind: ResourceKind, ref: ObjectRef): ObjectKey {
  const namespace = kind.namespaced ? (ref.namespace ?? "") : "";
  return { group: kind.group, kind: kind.kind, namespace, name: ref.name };
}

function isOf(object: KubeObject, kind: { readonly group: string; readonly kind: string }): boolean {
  return object.kind === kind.kind && keyOf(object).group === kind.group;
}

function objectOf(record: StateRecord | undefined): KubeObject {
  if (record === undefined) throw new StoreError("NOT_FOUND", "the object is gone");
  return record.object;
}

/** As it would arrive by way of JSON: nothing shared with the caller, no undefined. */
function clean<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}
