import { LineCounter, parseDocument } from "yaml";
import type { Problem } from "./read-file.ts";
import { findings, formatPath, isRecord, list, mapOf, object, string } from "./schema.ts";

/** The file that says which command an image name stands for: there are no images on one machine. */
export const IMAGES_FILE = "images.yaml";

/** Image name → command. */
export type Images = ReadonlyMap<string, readonly string[]>;

const check = object({ images: mapOf(list(string(), { min: 1 })) }, ["images"]);

/** Reads `images: {name: [command, …]}`. */
export function readImages(text: string): { readonly images: Images; readonly problems: readonly Problem[] } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const report = (offset: number, message: string): Problem => ({
    file: IMAGES_FILE,
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
