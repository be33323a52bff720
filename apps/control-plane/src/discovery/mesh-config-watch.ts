import { type Log, MESH_CONFIG_KEY, MESH_CONFIG_MAP, MeshError } from "@tulle/base";
import { type MeshConfig, parseMeshConfig } from "@tulle/mesh/convert";
import { CONFIG_MAP, type ConfigMap, type Store, type Watch } from "@tulle/store";

export type Settings = MeshConfig["settings"];

export interface MeshConfigWatchOptions {
  readonly store: Store;
  /** Where the ConfigMap lives. */
  readonly namespace: string;
  /** What holds where the ConfigMap says nothing, or does not exist. */
  readonly base: Settings;
  readonly log: Log;
}

/** Until the first word of the store; without one the start has failed. */
const FIRST_TIMEOUT_MS = 30_000;

/**
 * The configuration of the mesh, from the ConfigMap `istio`. A change that cannot be used leaves the last good one, and so
 * does taking the ConfigMap away: nobody who means "as by default" deletes it.
 */
export class MeshConfigWatch {
  readonly #options: MeshConfigWatchOptions;
  readonly #watch: Watch<ConfigMap>;
  readonly #listeners = new Set<(settings: Settings) => void>();
  #settings: Settings;
  #text: string | undefined;
  #problem: string | undefined;

  private constructor(options: MeshConfigWatchOptions) {
    this.#options = options;
    this.#settings = options.base;
    const selection = { namespace: options.namespace, fields: { "metadata.name": MESH_CONFIG_MAP } };
    const handler = {
      put: (object: ConfigMap) => this.#read(object.data?.[MESH_CONFIG_KEY] ?? "", object),
      gone: () => this.#gone(),
    };
    this.#watch = options.store.watch(CONFIG_MAP, handler, selection);
  }

  /** Rejects with MeshError `BAD_MESH_CONFIG` when the first one cannot be used, `NO_MESH_CONFIG` when the store does not answer. */
  static async open(options: MeshConfigWatchOptions): Promise<MeshConfigWatch> {
    const made = new MeshConfigWatch(options);
    try {
      await made.#watch.whenSynced(AbortSignal.timeout(FIRST_TIMEOUT_MS));
    } catch (cause) {
      const why = made.#watch.state.problem ?? "there was no answer";
      made.close();
      const text = `the ConfigMap ${options.namespace}/${MESH_CONFIG_MAP} cannot be read: ${why}`;
      throw new MeshError(text, { code: "NO_MESH_CONFIG", side: "upstream", cause });
    }
    if (made.#problem === undefined) return made;
    made.close();
    throw new MeshError(made.#problem, { code: "BAD_MESH_CONFIG", side: "internal" });
  }

  get settings(): Settings {
    return this.#settings;
  }

  /** Why the configuration that is there is not the one in use. */
  get problem(): string | undefined {
    return this.#problem;
  }

  subscribe(listener: (settings: Settings) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#watch.close();
    this.#listeners.clear();
  }

  #gone(): void {
    const { namespace, log } = this.#options;
    this.#text = undefined;
    this.#problem = `the ConfigMap ${namespace}/${MESH_CONFIG_MAP} is gone: what it said last stays until the control plane starts again`;
    log.error("the configuration of the mesh is gone, the last good one stays", { error: this.#problem });
  }

  #read(text: string, object: ConfigMap): void {
    if (text === this.#text) return;
    this.#text = text;
    const { store, namespace, base, log } = this.#options;
    const parsed = parseMeshConfig(text, base);
    if (parsed.kind === "unusable") {
      const where = `the key ${MESH_CONFIG_KEY} of the ConfigMap ${namespace}/${MESH_CONFIG_MAP}`;
      this.#problem = `${where} cannot be used: ${parsed.problems.join("; ")}`;
      log.error("the configuration of the mesh is not used, the last good one stays", { error: this.#problem });
      store.event(object, { type: "Warning", reason: "BadMeshConfig", message: this.#problem });
      return;
    }
    this.#problem = undefined;
    const { settings, ignored, unknown } = parsed.config;
    this.#settings = settings;
    if (unknown.length > 0) log.warn("unknown fields of the mesh's configuration", { fields: unknown.join(",") });
    if (ignored.length > 0)
      log.info("fields of the mesh's configuration without effect", { fields: ignored.join(",") });
    for (const listener of this.#listeners) listener(settings);
  }
}
