import { type FSWatcher, readdirSync, readFileSync, watch } from "node:fs";
import { join } from "node:path";
import { messageOf } from "@tulle/base";
import { IMAGES_FILE, type Images, readImages } from "./images.ts";
import { type Located, type Problem, readFile } from "./read-file.ts";
import { checkTogether, type ResourceSet } from "./resource-set.ts";

/** An answer to "what does the directory say now": always a usable set, with the problems beside it. */
export interface DirectoryState {
  readonly set: ResourceSet;
  readonly problems: readonly Problem[];
}

/** Editors write in several steps; this long after the last event a file is taken to be whole. Part of the policy latency. */
const SETTLE_MS = 30;
/** A file larger than this is not Kubernetes YAML that a person wrote. */
const MAX_FILE_BYTES = 1024 * 1024;
const MAX_FILES = 1000;

interface KnownFile {
  readonly text: string;
  readonly good: readonly Located[];
}

/**
 * A directory of Kubernetes YAML (`*.yaml`, `*.yml`, not its sub-folders) and `images.yaml`. One bad file never hides the
 * others: while it is bad, its last good content stands. The directory is only read, never written.
 */
export class ResourceDirectory {
  readonly path: string;
  #files = new Map<string, KnownFile>();
  #images: Images = new Map();
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(path: string) {
    this.path = path;
  }

  /** Reads everything now. Throws when the directory itself cannot be read. */
  read(): DirectoryState {
    const names = readdirSync(this.path, { withFileTypes: true })
      .filter((entry) => !entry.isDirectory() && /^[^.].*\.ya?ml$/.test(entry.name))
      .map((entry) => entry.name)
      .sort();
    const problems: Problem[] = [];
    if (names.length > MAX_FILES) {
      problems.push({
        file: names[MAX_FILES] ?? "",
        line: 1,
        message: `more than ${MAX_FILES} files: the rest is not read`,
      });
      names.length = MAX_FILES;
    }
    this.#readImages(names, problems);
    const before = this.#files;
    const fresh = new Map<string, KnownFile>();
    const bad = new Set<string>();
    for (const file of names.filter((name) => name !== IMAGES_FILE)) {
      const known = before.get(file);
      const text = this.#text(file, problems);
      if (text === undefined) {
        if (known !== undefined) fresh.set(file, known);
        continue;
      }
      const content = readFile(file, text);
      problems.push(...content.problems);
      if (content.problems.length > 0) bad.add(file);
      // A file that was never good still contributes the documents of it that are.
      const good = content.problems.length > 0 && known !== undefined ? known.good : content.resources;
      fresh.set(file, { text, good });
    }
    const resources = this.#settle(fresh, before, problems, bad);
    this.#files = fresh;
    return { set: { resources: resources.map((one) => one.resource), images: this.#images }, problems };
  }

  /** Calls `changed` after every change until the signal aborts; `failed` when the directory cannot be watched or read. */
  watch(changed: (state: DirectoryState) => void, failed: (message: string) => void, signal: AbortSignal): void {
    const look = () => {
      this.#timer = undefined;
      try {
        changed(this.read());
      } catch (error) {
        failed(`cannot read ${this.path}: ${messageOf(error)}`);
      }
    };
    this.#watcher = watch(this.path, { signal }, () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(look, SETTLE_MS);
    });
    this.#watcher.on("error", (error) => failed(`cannot watch ${this.path}: ${messageOf(error)}`));
    signal.addEventListener("abort", () => clearTimeout(this.#timer), { once: true });
  }

  /**
   * Files that contradict the others go back to their last good content; what still contradicts then is left out, so that
   * the rest of the directory counts.
   */
  #settle(
    fresh: Map<string, KnownFile>,
    before: ReadonlyMap<string, KnownFile>,
    problems: Problem[],
    bad: ReadonlySet<string>,
  ): readonly Located[] {
    const all = () => [...fresh.values()].flatMap((file) => file.good);
    const found = checkTogether(all(), this.#images);
    problems.push(...found);
    for (const file of new Set(found.map((problem) => problem.file))) {
      const known = before.get(file);
      if (known !== undefined && !bad.has(file))
        fresh.set(file, { text: fresh.get(file)?.text ?? "", good: known.good });
    }
    let resources = all();
    // Leaving one out can break another that named it: at most as many rounds as there are resources.
    for (;;) {
      const still = checkTogether(resources, this.#images);
      if (still.length === 0) return resources;
      const where = new Set(still.map((problem) => `${problem.file}:${problem.line}`));
      resources = resources.filter((one) => !where.has(`${one.file}:${one.line}`));
    }
  }

  #readImages(names: readonly string[], problems: Problem[]): void {
    if (!names.includes(IMAGES_FILE)) {
      this.#images = new Map();
      return;
    }
    const text = this.#text(IMAGES_FILE, problems);
    if (text === undefined) return;
    const read = readImages(text);
    problems.push(...read.problems);
    if (read.problems.length === 0) this.#images = read.images;
  }

  #text(file: string, problems: Problem[]): string | undefined {
    try {
      const bytes = readFileSync(join(this.path, file));
      if (bytes.length <= MAX_FILE_BYTES) return bytes.toString("utf8");
      problems.push({ file, line: 1, message: `is larger than ${MAX_FILE_BYTES} bytes` });
    } catch (error) {
      problems.push({ file, line: 1, message: `cannot be read: ${messageOf(error)}` });
    }
    return undefined;
  }
}
