import { createHash } from "node:crypto";
import { existsSync, globSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Compression, digestOf, type Layer, layerOf } from "./oci.ts";
import type { TarEntry } from "./tar.ts";

/** Layers that take seconds to make and seldom change, kept by the content of what they are made from. */
export interface LayerCache {
  /** The layer of `entries`, which are only asked for when no cached one was made from the same files and words. */
  layer(made: { readonly from: LayerInputs; readonly comment: string; readonly entries: () => TarEntry[] }): Layer;
}

export interface LayerInputs {
  readonly files: Iterable<string>;
  readonly words: readonly string[];
}

export function createLayerCache(folder: string, compression: Compression): LayerCache {
  mkdirSync(folder, { recursive: true });
  return {
    layer({ from, comment, entries }) {
      const key = keyOf(from, [comment, compression]);
      const blobFile = join(folder, `${key}.blob`);
      const aboutFile = join(folder, `${key}.json`);
      if (existsSync(aboutFile) && existsSync(blobFile)) {
        const about = JSON.parse(readFileSync(aboutFile, "utf8")) as Omit<Layer, "blob">;
        const blob = readFileSync(blobFile);
        // A half-written or damaged file is made anew.
        if (digestOf(blob) === about.digest) return { ...about, blob };
      }
      const layer = layerOf(entries(), compression, comment);
      const { blob, ...about } = layer;
      writeWhole(blobFile, blob);
      writeWhole(aboutFile, JSON.stringify(about));
      return layer;
    },
  };
}

/** Never seen half-written by a build that runs beside this one. */
export function writeWhole(path: string, content: string | Uint8Array): void {
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, content);
  renameSync(temporary, path);
}

/** The sources of this folder count too: what they would make of the same files may have changed. */
function keyOf({ files, words }: LayerInputs, more: readonly string[]): string {
  const hash = createHash("sha256");
  for (const word of [...words, ...more, process.versions.zlib, process.versions.zstd ?? ""]) hash.update(`${word}\0`);
  const sources = globSync("*.ts", { cwd: import.meta.dirname }).filter((file) => !file.endsWith(".test.ts"));
  for (const file of [...sources.toSorted().map((name) => join(import.meta.dirname, name)), ...files]) {
    hash.update(digestOf(readFileSync(file)));
  }
  return hash.digest("hex").slice(0, 32);
}
