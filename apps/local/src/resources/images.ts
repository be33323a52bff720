import { readFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf } from "@tulle/base";
import type { Problem } from "@tulle/store/directory";
import { LineCounter, parseDocument } from "yaml";
import { findings, formatPath, isRecord, list, mapOf, object, string } from "./schema.ts";

/**
 * The file that says which command an image name stands for: there are no images on one machine. It lies in the directory,
 * or in its folder `local`, where kubectl does not look.
 */
export const IMAGES_FILES = ["images.yaml", "local/images.yaml"];

/** Image name → command. */
export type Images = ReadonlyMap<string, readonly string[]>;

const MAX_BYTES = 1024 * 1024;
const check = object({ images: mapOf(list(string(), { min: 1 })) }, ["images"]);

/** The images of a directory; what was good last stays while the file has a fault. */
export class UserImages {
  readonly #directory: string;
  #text: string | undefined;
  #images: Images = new Map();
  #problems: readonly Problem[] = [];

  constructor(directory: string) {
    this.#directory = directory;
  }

  get current(): Images {
    return this.#images;
  }

  get problems(): readonly Problem[] {
    return this.#problems;
  }

  /** Looks at the files now. */
  read(): Images {
    const found: { readonly file: string; readonly text: string }[] = [];
    const unread: Problem[] = [];
    for (const file of IMAGES_FILES) {
      try {
        const text = readFileSync(join(this.#directory, file), "utf8");
        if (text.length > MAX_BYTES) unread.push({ file, line: 1, message: `is larger than ${MAX_BYTES} bytes` });
        else found.push({ file, text });
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        // Nobody has to have one.
        if (code !== "ENOENT" && code !== "ENOTDIR")
          unread.push({ file, line: 1, message: `cannot be read: ${messageOf(error)}` });
      }
    }
    const text = JSON.stringify([found, unread]);
    if (text === this.#text) return this.#images;
    this.#text = text;
    const contents = found.map(({ file, text: content }) => readImages(file, content));
    this.#problems = [...unread, ...contents.flatMap(({ problems }) => problems)];
    if (this.#problems.length === 0) this.#images = new Map(contents.flatMap(({ images }) => [...images]));
    return this.#images;
  }
}

/** Reads `images: {name: [command, …]}`. */
export function readImages(
  file: string,
  text: string,
): { readonly images: Images; readonly problems: readonly Problem[] } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const report = (offset: number, message: string): Problem => ({
    file,
    line: Math.max(1, lines.linePos(offset).line),
    message,
  });
  if (document.errors.length > 0) {
    return { images: new Map(), problems: document.errors.map((error) => report(error.pos[0], error.message)) };
  }
  const value: unknown = document.toJS({ maxAliasCount: 100 });
  const problems = findings(value, check).map(({ path, message }) => {
    const node = document.getIn(path, true) as { range?: readonly number[] | null } | undefined;
    return report(node?.range?.[0] ?? 0, `${formatPath(path)} ${message}`.trim());
  });
  const entries = isRecord(value) && problems.length === 0 ? (value.images as Record<string, string[]>) : {};
  return { images: new Map(Object.entries(entries)), problems };
}
