import { mkdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { IMAGES, type ImageDefinition } from "./definitions.ts";
import { writeWhole } from "./layer-cache.ts";
import { createImageMaker } from "./make.ts";
import { archiveOf, type Compression, type Image } from "./oci.ts";

/** `npm run images`: writes one OCI archive per image, without a container daemon. */

const USAGE = `usage: npm run images -- [options] [image…]

Writes OCI archives for linux/amd64: one per image, to be loaded with \`ctr -n k8s.io images import FILE\`.
Images: ${IMAGES.map(({ name }) => name).join(", ")} (default: all)

  --hub HUB             first part of the names (default: docker.io/tulle)
  --tag TAG             (default: the version in package.json)
  --output FOLDER       (default: .cache/images)
  --compression KIND    of the layers: zstd, gzip or none (default: zstd)
  --together            one archive tulle.tar with all of them: what they share is in it once
`;
const COMPRESSIONS: readonly Compression[] = ["none", "gzip", "zstd"];
/** Named without a registry's host, a runtime would look for them there. */
const HUB = "docker.io/tulle";

const root = dirname(import.meta.dirname);

try {
  build(process.argv.slice(2));
} catch (error) {
  console.error(`images: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}

function build(args: string[]): void {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      hub: { type: "string", default: HUB },
      tag: { type: "string", default: version() },
      output: { type: "string", default: join(root, ".cache/images") },
      compression: { type: "string", default: "zstd" },
      together: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return void process.stdout.write(USAGE);
  const compression = COMPRESSIONS.find((known) => known === values.compression);
  if (compression === undefined) throw new Error(`--compression takes ${COMPRESSIONS.join(", ")}`);
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Error("images are made of this machine's files, and they are for linux on x86-64: build them there");
  }
  const { hub, tag } = values;
  const output = resolve(values.output);
  mkdirSync(output, { recursive: true });
  const make = createImageMaker({ root, cache: join(root, ".cache/images/layers"), hub, tag, compression });
  const images = chosen(positionals).map((definition) => ({ name: definition.name, image: make(definition) }));
  if (values.together) {
    write(
      join(output, "tulle.tar"),
      images.map(({ image }) => image),
    );
  } else {
    for (const { name, image } of images) write(join(output, `${name}.tar`), [image]);
  }
}

function write(file: string, images: readonly Image[]): void {
  const { archive, digests } = archiveOf(images);
  writeWhole(file, archive);
  for (const [i, { reference, layers }] of images.entries()) {
    const sizes = layers.map(({ blob }) => megabytes(blob.length)).join(" + ");
    console.log(`${reference} ${digests[i]} ${sizes} MB`);
  }
  console.log(`  ${file}: ${megabytes(archive.length)} MB`);
}

function chosen(names: readonly string[]): readonly ImageDefinition[] {
  if (names.length === 0) return IMAGES;
  return names.map((name) => {
    const found = IMAGES.find((image) => image.name === name);
    if (found === undefined)
      throw new Error(`there is no image "${name}"; there are ${IMAGES.map((i) => i.name).join(", ")}`);
    return found;
  });
}

function version(): string {
  return (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string }).version;
}

function megabytes(bytes: number): string {
  return (bytes / 1_000_000).toFixed(1);
}
