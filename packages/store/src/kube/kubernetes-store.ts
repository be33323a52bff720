import { type Clock, type Log, type Random, silentLog, systemClock } from "@tulle/base";
import {
  type ApplyOptions,
  type EventInput,
  type KubeObject,
  type ObjectMeta,
  type ObjectRef,
  type Patch,
  type ResourceKind,
  type Selection,
  type Store,
  type Watch,
  type WatchHandler,
  type WriteOptions,
} from "../contract.ts";
import { EventRecorder } from "../event-recorder.ts";
import { FollowedObjects } from "../followed-objects.ts";
import { apiVersionOf } from "../kinds.ts";
import { KubeApi } from "./kube-api.ts";
import type { KubeConnection } from "./kube-connection.ts";
import { isPatchMisfit, KubeApiError } from "./kube-error.ts";
import { listAll, PAGE_SIZE, tidy } from "./kube-list.ts";
import { checkRef, collectionPath, describe, objectPath } from "./kube-path.ts";
import { followKind, WATCH_TIMINGS, type WatchTimings } from "./kube-watch.ts";

export interface KubernetesStoreOptions {
  readonly connection: KubeConnection;
  /** Who we are, in the User-Agent, in Events, and as manager of patched fields: `tulle-control-plane`. */
  readonly component: string;
  /** Name of this instance in Events: the node or pod. Default: none. */
  readonly instance?: string;
  readonly log?: Log;
  readonly clock?: Clock;
  readonly random?: Random;
  /** Objects per page of a list. Default PAGE_SIZE. */
  readonly pageSize?: number;
  /** For tests. */
  readonly timings?: Partial<WatchTimings> & { readonly requestMs?: number };
}

const PATCH_TYPES = { merge: "application/merge-patch+json", json: "application/json-patch+json" } as const;

/** The resources of a Kubernetes API server. */
export class KubernetesStore implements Store {
  readonly name = "kubernetes";
  /** For what the Store does not offer: sub-resources, raw paths. */
  readonly api: KubeApi;
  readonly #options: KubernetesStoreOptions;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #watches = new Set<{ close(): void }>();
  readonly #events: EventRecorder;
  #closed = false;

  constructor(options: KubernetesStoreOptions) {
    this.#options = options;
    this.#log = options.log ?? silentLog;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    const { requestMs } = options.timings ?? {};
    this.api = new KubeApi(options.connection, {
      userAgent: `${options.component}/0.1`,
      ...(requestMs === undefined ? {} : { timeoutMs: requestMs }),
    });
    this.#events = new EventRecorder({
      store: this,
      component: options.component,
      instance: options.instance ?? "",
      log: this.#log,
      clock: this.#clock,
      random: this.#random,
    });
  }

  async list<T extends KubeObject>(kind: ResourceKind<T>, selection?: Selection): Promise<readonly T[]> {
    const { items } = await listAll(this.api, kind, selection, { pageSize: this.#options.pageSize ?? PAGE_SIZE });
    return items;
  }

  async get<T extends KubeObject>(kind: ResourceKind<T>, ref: ObjectRef): Promise<T | undefined> {
    try {
      const object = await this.api.request<T>("GET", objectPath(kind, ref), { what: describe("get", kind, ref) });
      return tidy(kind, object);
    } catch (error) {
      if (error instanceof KubeApiError && error.code === "NOT_FOUND") return undefined;
      throw error;
    }
  }

  watch<T extends KubeObject>(kind: ResourceKind<T>, handler: WatchHandler<T>, selection?: Selection): Watch<T> {
    const stop = new AbortController();
    const what = describe("watch", kind, selection ?? {});
    const objects: FollowedObjects<T> = new FollowedObjects<T>({
      handler,
      log: this.#log,
      what,
      onClose: () => {
        stop.abort();
        this.#watches.delete(objects);
      },
    });
    if (this.#closed) {
      objects.close();
      return objects;
    }
    this.#watches.add(objects);
    void followKind({
      api: this.api,
      kind,
      selection,
      objects,
      pageSize: this.#options.pageSize ?? PAGE_SIZE,
      log: this.#log,
      clock: this.#clock,
      random: this.#random,
      timings: { ...WATCH_TIMINGS, ...this.#options.timings },
      signal: stop.signal,
    });
    return objects;
  }

  async create<T extends KubeObject>(kind: ResourceKind<T>, object: T): Promise<T> {
    const { namespace, name } = object.metadata;
    if (kind.namespaced && (namespace ?? "") === "") checkRef(kind, { name: name || "?" });
    const created = await this.api.request<T>("POST", collectionPath(kind, namespace), {
      what: describe("create", kind, object.metadata),
      body: { ...object, apiVersion: apiVersionOf(kind), kind: kind.kind },
    });
    return tidy(kind, created);
  }

  async apply<T extends KubeObject>(kind: ResourceKind<T>, object: KubeObject, options: ApplyOptions): Promise<T> {
    // The API server refuses an applied object that has them, and what a watch gave has them.
    const { managedFields: _managedFields, ...metadata } = object.metadata as ObjectMeta & Record<string, unknown>;
    const applied = await this.api.request<T>("PATCH", objectPath(kind, object.metadata, options.subresource), {
      what: describe("patch", kind, object.metadata),
      query: { fieldManager: options.manager, force: String(options.force ?? true) },
      contentType: "application/apply-patch+yaml",
      body: { ...object, apiVersion: apiVersionOf(kind), kind: kind.kind, metadata },
      signal: options.signal,
    });
    return tidy(kind, applied);
  }

  async patch<T extends KubeObject>(
    kind: ResourceKind<T>,
    ref: ObjectRef,
    patch: Patch,
    options: WriteOptions = {},
  ): Promise<T> {
    const what = describe("patch", kind, ref);
    try {
      const patched = await this.api.request<T>("PATCH", objectPath(kind, ref, options.subresource), {
        what,
        query: { fieldManager: this.#options.component },
        contentType: PATCH_TYPES[patch.type],
        body: patch.body,
        signal: options.signal,
      });
      return tidy(kind, patched);
    } catch (error) {
      if (patch.type === "json" && patch.body.some(({ op }) => op === "test") && isPatchMisfit(error)) {
        throw new KubeApiError(
          "CONFLICT",
          `${what}: the object is not as the patch's tests expect`,
          { status: 422 },
          error,
        );
      }
      throw error;
    }
  }

  async delete(kind: ResourceKind, ref: ObjectRef, options: { readonly uid?: string } = {}): Promise<void> {
    const { uid } = options;
    try {
      await this.api.request("DELETE", objectPath(kind, ref), {
        what: describe("delete", kind, ref),
        // Dependents go in the background, as with kubectl.
        body: {
          kind: "DeleteOptions",
          apiVersion: "v1",
          propagationPolicy: "Background",
          ...(uid === undefined ? {} : { preconditions: { uid } }),
        },
      });
    } catch (error) {
      if (error instanceof KubeApiError && error.code === "NOT_FOUND") return;
      // Another object has the name now: the one that was meant is gone.
      if (error instanceof KubeApiError && error.code === "CONFLICT" && uid !== undefined) return;
      throw error;
    }
  }

  event(about: KubeObject, event: EventInput): void {
    if (!this.#closed) this.#events.record(about, event);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const watch of [...this.#watches]) watch.close();
    await this.#events.close();
    this.api.close();
  }
}
