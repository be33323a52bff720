import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "@tulle/api";
import { type Log, messageOf } from "@tulle/base";
import { type PutChange, resourceKey } from "@tulle/mesh";
import type { MeshChanges, MeshIndex, MeshObjectKind, MeshSettings, ObjectStatus } from "@tulle/mesh/convert";
import type { KubeObject } from "@tulle/store";
import type { ResourceInput } from "@tulle/xds";
import { resourceInput } from "./resource-input.ts";

/** Where changed resources go: an AdsServer. */
export interface ResourceSink {
  update(
    typeUrl: string,
    change: { readonly changed?: readonly ResourceInput[]; readonly removed?: readonly string[] },
  ): void;
}

export interface DiscoveryOptions {
  readonly index: Pick<MeshIndex, "put" | "remove" | "reconfigure" | "flush">;
  readonly sink: ResourceSink;
  /** Changes are gathered for so long from the first one on, at most 10 ms. */
  readonly windowMs: number;
  readonly log: Log;
  /** Conditions of objects that changed. */
  readonly onStatuses?: (statuses: readonly ObjectStatus[]) => void;
  /** After the sink was told: the state that is served now is that of all objects so far. */
  readonly onFlushed?: (flush: FlushInfo) => void;
  /** A resource could not be encoded. */
  readonly onLeftOut?: (kind: PutChange["kind"]) => void;
  /** An object came, changed or went. */
  readonly onEvent?: (kind: MeshObjectKind | "MeshConfig") => void;
}

export interface FlushInfo {
  readonly puts: number;
  readonly removes: number;
  /** From the first change to the flush. */
  readonly waitedMs: number;
  /** Computing and encoding. */
  readonly tookMs: number;
}

const MAX_WINDOW_MS = 10;

/**
 * Objects → resources that are served. A change starts a window of fixed length; what changes within it goes out
 * together, and a steady stream of changes never puts the next flush off. Until `start` nothing is computed or served.
 */
export class Discovery {
  readonly #options: DiscoveryOptions;
  #started = false;
  #timer: NodeJS.Timeout | undefined;
  /** When the oldest change came that was not flushed. */
  #since = 0;

  constructor(options: DiscoveryOptions) {
    this.#options = options;
  }

  put(kind: MeshObjectKind, object: KubeObject): void {
    this.#options.index.put(kind, object);
    this.#schedule(kind);
  }

  remove(kind: MeshObjectKind, object: KubeObject): void {
    const { namespace = "", name } = object.metadata;
    this.#options.index.remove(kind, namespace, name);
    this.#schedule(kind);
  }

  reconfigure(settings: MeshSettings): void {
    this.#options.index.reconfigure(settings);
    this.#schedule("MeshConfig");
  }

  /** The first state is complete: computes and serves it, and what comes after. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    this.#since = performance.now();
    this.#flush();
  }

  close(): void {
    this.#started = false;
    clearTimeout(this.#timer);
  }

  #schedule(kind: MeshObjectKind | "MeshConfig"): void {
    this.#options.onEvent?.(kind);
    if (!this.#started || this.#timer !== undefined) return;
    this.#since = performance.now();
    this.#timer = setTimeout(() => this.#flush(), Math.min(this.#options.windowMs, MAX_WINDOW_MS));
  }

  #flush(): void {
    this.#timer = undefined;
    const { index, log, onStatuses, onFlushed } = this.#options;
    const begin = performance.now();
    let changes: MeshChanges;
    try {
      changes = index.flush();
      this.#serve(changes);
    } catch (error) {
      // What is served stays as it was; a single object must not end the process. Neither part should ever throw.
      log.error("the mesh cannot be computed", { error: messageOf(error) });
      return;
    }
    const { puts, removes, statuses } = changes;
    const now = performance.now();
    const info = { puts: puts.length, removes: removes.length, waitedMs: begin - this.#since, tookMs: now - begin };
    log.debug("the mesh changed", { puts: info.puts, removes: info.removes, ms: Math.round(info.tookMs) });
    if (statuses.length > 0) onStatuses?.(statuses);
    onFlushed?.(info);
  }

  /** undefined: it is left out, until it is another one. It takes no other resource along. */
  #encode(change: PutChange): ReturnType<typeof resourceInput> | undefined {
    try {
      return resourceInput(change);
    } catch (error) {
      const { kind } = change;
      const fields = { kind, resource: resourceKey(change), error: messageOf(error) };
      this.#options.log.error("a resource cannot be encoded and is not served as it is now", fields);
      this.#options.onLeftOut?.(kind);
      return undefined;
    }
  }

  #serve({ puts, removes }: MeshChanges): void {
    const changed: Record<string, ResourceInput[]> = { [AUTHORIZATION_TYPE]: [], [ADDRESS_TYPE]: [] };
    const removed: Record<string, string[]> = { [AUTHORIZATION_TYPE]: [], [ADDRESS_TYPE]: [] };
    for (const change of puts) {
      const input = this.#encode(change);
      if (input !== undefined) changed[input.typeUrl]?.push(input.resource);
      // What was served of it may be another's by now. A policy stays: without it more would be allowed.
      else if (change.kind !== "policy") removed[ADDRESS_TYPE]?.push(resourceKey(change));
    }
    for (const { kind, key } of removes) removed[kind === "policy" ? AUTHORIZATION_TYPE : ADDRESS_TYPE]?.push(key);
    // Policies first: a workload that names one that is not there yet would have to wait for it.
    for (const typeUrl of [AUTHORIZATION_TYPE, ADDRESS_TYPE]) {
      const update = { changed: changed[typeUrl] ?? [], removed: removed[typeUrl] ?? [] };
      if (update.changed.length + update.removed.length > 0) this.#options.sink.update(typeUrl, update);
    }
  }
}
