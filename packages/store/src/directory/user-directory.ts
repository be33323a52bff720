import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Clock, messageOf } from "@tulle/base";
import { type DocumentCheck, type FileContent, type Problem, readDocuments } from "./yaml-documents.ts";

export interface UserFiles {
  /** Undefined: being written at this moment or one too many, and not read before. */
  readonly files: ReadonlyMap<string, FileContent | undefined>;
  /** Of files that cannot be read at all. */
  readonly problems: readonly Problem[];
  /** A file was changed a moment ago and may not be whole yet: read again after this many milliseconds. */
  readonly againMs: number | undefined;
}

/** Editors write in several steps: a file counts when it has been left alone this long. Part of the policy latency. */
export const SETTLE_MS = 30;
/** A file larger than this is not YAML that a person wrote. */
const MAX_FILE_BYTES = 1024 * 1024;
const MAX_FILES = 1000;
/** The local mesh's own file: it says which program stands for which image, and holds no object. */
const OTHER_FILES = new Set(["images.yaml"]);

interface Known {
  readonly stamp: string;
  readonly content: FileContent | undefined;
}

/** What it said when it was read last stays, if it ever was. */
const UNREAD: Known = { stamp: "", content: undefined };

/** The YAML files of a directory (`*.yaml`, `*.yml`, not in its sub-folders), each parsed when it has changed. Only read. */
export class UserDirectory {
  readonly path: string;
  readonly #clock: Clock;
  readonly #check: DocumentCheck | undefined;
  #known = new Map<string, Known>();

  constructor(path: string, clock: Clock, check?: DocumentCheck) {
    this.path = path;
    this.#clock = clock;
    this.#check = check;
  }

  /** Throws what the file system says when the directory itself cannot be read. */
  read(): UserFiles {
    const names = readdirSync(this.path, { withFileTypes: true })
      .filter((entry) => !entry.isDirectory() && /^[^.].*\.ya?ml$/.test(entry.name) && !OTHER_FILES.has(entry.name))
      .map((entry) => entry.name)
      .sort();
    const problems: Problem[] = [];
    const excess = names.splice(MAX_FILES);
    const [first] = excess;
    if (first !== undefined) {
      const message = `more than ${MAX_FILES} files: this one and those after it are not read, what they said last stays`;
      problems.push({ file: first, line: 1, message });
    }
    const known = new Map<string, Known>();
    for (const name of excess) known.set(name, this.#known.get(name) ?? UNREAD);
    let againMs: number | undefined;
    for (const name of names) {
      const before = this.#known.get(name);
      try {
        const { stamp, age } = this.#look(name);
        if (stamp === before?.stamp) {
          known.set(name, before);
        } else if (age >= 0 && age < SETTLE_MS) {
          againMs = SETTLE_MS;
          known.set(name, before ?? UNREAD);
        } else {
          known.set(name, this.#parse(name, stamp));
        }
      } catch (error) {
        const content = {
          objects: [],
          problems: [{ file: name, line: 1, message: `cannot be read: ${messageOf(error)}` }],
        };
        known.set(name, { stamp: "", content });
      }
    }
    this.#known = known;
    return { files: new Map([...known].map(([name, { content }]) => [name, content])), problems, againMs };
  }

  #parse(name: string, stamp: string): Known {
    const bytes = readFileSync(join(this.path, name));
    if (bytes.length > MAX_FILE_BYTES) {
      return {
        stamp,
        content: {
          objects: [],
          problems: [{ file: name, line: 1, message: `is larger than ${MAX_FILE_BYTES} bytes` }],
        },
      };
    }
    return { stamp, content: readDocuments(name, bytes.toString("utf8"), this.#check) };
  }

  #look(name: string): { readonly stamp: string; readonly age: number } {
    const { ino, mtimeNs, ctimeNs, size, mtimeMs } = statSync(join(this.path, name), { bigint: true });
    return { stamp: `${ino}/${mtimeNs}/${ctimeNs}/${size}`, age: this.#clock.wall() - Number(mtimeMs) };
  }
}
