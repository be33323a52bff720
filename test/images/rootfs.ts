import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { createImageMaker } from "../../images/make.ts";
import type { ImageDefinition } from "../../images/definitions.ts";
import type { Image } from "../../images/oci.ts";

/** Where a shell looks for programs, whatever PATH the image sets. */
const PROGRAM_FOLDERS = ["bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"];

export const ROOT = join(import.meta.dirname, "../..");

/** The image of a definition, with the layers of former builds. The first build of all takes ten seconds. */
export function makeImage(definition: ImageDefinition): Image {
  const cache = join(ROOT, ".cache/images/layers");
  return createImageMaker({ root: ROOT, cache, hub: "test.local", tag: "test", compression: "zstd" })(definition);
}

/** Lays an image's layers over each other in a folder, as a runtime does. */
export function unpack(image: Image, folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const [index, { blob }] of image.layers.entries()) {
    const tar = join(folder, `.layer-${index}.tar`);
    writeFileSync(tar, zstdDecompressSync(blob));
    execFileSync("tar", ["--extract", "--file", tar, "--directory", folder, "--overwrite"]);
    execFileSync("rm", [tar]);
  }
}

/** Names of all programs that a process in the unpacked image can call by name, sorted. */
export function programsIn(folder: string, { config }: Image): string[] {
  const path = (config.env?.["PATH"] ?? "").split(":");
  const places = [...PROGRAM_FOLDERS, ...path].map((place) => join(folder, place));
  return [...new Set(places.filter((place) => existsSync(place)).flatMap((place) => readdirSync(place)))].sort();
}
