import { type FSWatcher, watch } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { type Log, MeshError, messageOf, sleep } from "@tulle/base";
import { type MeshChange, ResourceLog } from "@tulle/mesh";
import type { LocalConfig } from "@tulle/mesh/local-file";
import type { StaticDump } from "./admin/config-dump.ts";
import type { Config } from "./config.ts";

/**
 * Workloads, services and policies from a file (LOCAL_XDS_PATH) that is read again whenever it changes, or from a
 * variable (LOCAL_XDS). Spec: l4-ztunnel §5.8. A file that cannot be used, or is gone, changes nothing: what was read last
 * stays in force, and the log says where the mistake is.
 */
export interface LocalSourceOptions {
  readonly source: NonNullable<Config["localXds"]>;
  /** The few changes that lead from what was to what is; first everything. Never "synced". */
  readonly onChanges: (changes: readonly MeshChange[]) => void;
  readonly log: Log;
}

/** A file must be left alone for this long before it is read, so that one that is being written is not taken for whole. */
const QUIET_MS = 100;
/** An empty file is most likely about to be written: reading it as "nothing" would take everything away. */
const QUIET_EMPTY_MS = 1000;
/** For file systems without events. */
const POLL_MS = 2000;
/** A file that is written without a pause is waited for this long; then the next event or poll tries again. */
const MAX_WAIT_MS = 10_000;
const VARIABLE = "LOCAL_XDS";

type LocalFileModule = typeof import("@tulle/mesh/local-file");

export class LocalSource {
  readonly #options: LocalSourceOptions;
  readonly #module: LocalFileModule;
  readonly #resources = new ResourceLog();
  readonly #closed = new AbortController();
  #config: LocalConfig = { workloads: [], services: [], policies: [] };
  /** What the file was like when it was last looked at, good or bad. */
  #seen = "";
  #checking: Promise<void> | undefined;
  #again = false;
  #watcher: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;

  private constructor(options: LocalSourceOptions, module: LocalFileModule) {
    this.#options = options;
    this.#module = module;
  }

  /** Throws MeshError `LOCAL_XDS_INVALID`, with every mistake on a line, when there is nothing usable at the start. */
  static async start(options: LocalSourceOptions): Promise<LocalSource> {
    // YAML is a large library: only who has a local file pays for it.
    const source = new LocalSource(options, await import("@tulle/mesh/local-file"));
    const { source: from } = options;
    if (from.kind === "inline") {
      source.#must(source.#apply(from.text, VARIABLE));
      return source;
    }
    const content = await readWhole(from.path, source.#closed.signal).catch((error: unknown) => {
      throw invalid([`${from.path}: ${messageOf(error)}`]);
    });
    source.#seen = content.signature;
    source.#must(source.#apply(content.text, from.path));
    source.#watch(from.path);
    return source;
  }

  /** `staticConfig` of /config_dump. */
  dump(): StaticDump {
    return this.#module.dumpLocalConfig(this.#config) as StaticDump;
  }

  close(): void {
    this.#closed.abort();
    this.#watcher?.close();
    clearInterval(this.#poll);
  }

  /** What is wrong with the text; nothing was changed then. */
  #apply(text: string, name: string): readonly string[] {
    const result = this.#module.parseLocalFile(text, name);
    if (!result.ok) return result.errors;
    try {
      const changes = this.#resources.replace(this.#module.localResources(result.config));
      this.#config = result.config;
      if (changes.length > 0) this.#options.onChanges(changes);
      return [];
    } catch (error) {
      return [`${name}: ${messageOf(error)}`];
    }
  }

  #must(errors: readonly string[]): void {
    if (errors.length > 0) throw invalid(errors);
  }

  #watch(path: string): void {
    const check = () => this.#check(path);
    try {
      // The directory, because a file may be replaced by another one or by way of a symbolic link.
      this.#watcher = watch(dirname(resolve(path)), check);
      this.#watcher.on("error", (error) => {
        this.#options.log.warn("the directory of the local resources cannot be watched; looking every two seconds", {
          path,
          error: messageOf(error),
        });
      });
    } catch (error) {
      this.#options.log.warn("the directory of the local resources cannot be watched; looking every two seconds", {
        path,
        error: messageOf(error),
      });
    }
    this.#poll = setInterval(check, POLL_MS);
    this.#poll.unref();
  }

  /** One check at a time; what happens meanwhile leads to another one. */
  #check(path: string): void {
    if (this.#checking !== undefined) {
      this.#again = true;
      return;
    }
    this.#checking = this.#reload(path).finally(() => {
      this.#checking = undefined;
      if (!this.#again || this.#closed.signal.aborted) return;
      this.#again = false;
      this.#check(path);
    });
  }

  /** Never rejects. */
  async #reload(path: string): Promise<void> {
    const { log } = this.#options;
    try {
      if ((await signatureOf(path)) === this.#seen) return;
      const content = await readWhole(path, this.#closed.signal);
      if (this.#closed.signal.aborted || content.signature === this.#seen) return;
      this.#seen = content.signature;
      const errors = this.#apply(content.text, path);
      if (errors.length === 0) {
        const { workloads, services, policies } = this.#config;
        log.info("local resources read again", {
          path,
          workloads: workloads.length,
          services: services.length,
          policies: policies.length,
        });
      } else {
        for (const error of errors) log.error("local resources are not usable; the last good ones stay", { error });
      }
    } catch (error) {
      const reason = messageOf(error);
      if (this.#closed.signal.aborted || reason === this.#seen) return;
      this.#seen = reason;
      log.error("local resources cannot be read; the last good ones stay", { path, error: reason });
    }
  }
}

interface Content {
  readonly text: string;
  /** Tells this state of the file from any other. */
  readonly signature: string;
}

/** The file once it has been left alone for a moment. Rejects when it is gone, or written without a pause. */
async function readWhole(path: string, signal: AbortSignal): Promise<Content> {
  const deadline = performance.now() + MAX_WAIT_MS;
  let before = await signatureOf(path);
  let text = await readFile(path, "utf8");
  while (!signal.aborted) {
    await sleep(text.trim() === "" ? QUIET_EMPTY_MS : QUIET_MS, signal);
    const after = await signatureOf(path);
    if (after === before) return { text, signature: after };
    if (performance.now() > deadline) throw new Error(`${path} is being written all the time`);
    before = after;
    text = await readFile(path, "utf8");
  }
  return { text, signature: before };
}

async function signatureOf(path: string): Promise<string> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
  return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
}

function invalid(errors: readonly string[]): MeshError {
  return new MeshError(`the local resources are not usable:\n${errors.map((error) => `- ${error}`).join("\n")}`, {
    code: "LOCAL_XDS_INVALID",
    side: "internal",
  });
}
