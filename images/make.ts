import { globSync } from "node:fs";
import { appEntries } from "./app-layer.ts";
import { baseEntries, baseInputs } from "./base-layer.ts";
import { pluginEntries } from "./cni-plugin.ts";
import { debianFiles, LIBRARY_FOLDER, librariesOf, whereIs } from "./debian-files.ts";
import type { ImageDefinition } from "./definitions.ts";
import { createLayerCache } from "./layer-cache.ts";
import { type Compression, type Image, type Layer, layerOf } from "./oci.ts";

export interface MakeOptions {
  /** Repository's root. */
  readonly root: string;
  /** Where layers are kept between builds. */
  readonly cache: string;
  /** `docker.io/tulle`. */
  readonly hub: string;
  readonly tag: string;
  readonly compression: Compression;
}

/** Makes images that share their base layer. Writes nothing but the layer cache. */
export function createImageMaker({ root, cache, hub, tag, compression }: MakeOptions): (d: ImageDefinition) => Image {
  const layers = createLayerCache(cache, compression);
  const inputs = baseInputs(root);
  const base = layers.layer({
    from: { files: [inputs.node, ...inputs.libraries.values()], words: [...inputs.libraries.keys()] },
    comment: "Node, its libraries, users and /tmp",
    entries: () => baseEntries(inputs),
  });
  const inBase = new Set([...inputs.libraries.keys()].map((name) => `${LIBRARY_FOLDER}/${name}`));

  const toolLayer = (programs: Readonly<Record<string, string>>): Layer => {
    const files = Object.keys(programs).flatMap((name) => [whereIs(name), ...librariesOf(whereIs(name)).values()]);
    return layers.layer({
      from: { files, words: Object.entries(programs).flat() },
      comment: `${Object.keys(programs).join(", ")} and their libraries`,
      entries: () => debianFiles(programs, inBase),
    });
  };

  return ({ name, title, entries, data, programs, plugin, config }) => {
    const modules = entries.flatMap((pattern) => globSync(pattern, { cwd: root }));
    if (modules.length === 0) throw new Error(`the image ${name} has nothing to run: ${entries[0]} is not there`);
    const files = appEntries({ root, entries: modules, ...(data && { data }) });
    if (plugin === true) files.push(...pluginEntries(root, [...inputs.libraries.keys()], base.diffId));
    const code = layerOf(files, compression, `${name} and its packages`);
    const labels = {
      "org.opencontainers.image.title": title,
      "org.opencontainers.image.version": tag,
      "org.opencontainers.image.licenses": "Apache-2.0",
    };
    return {
      reference: `${hub}/${name}:${tag}`,
      layers: [base, ...(programs ? [toolLayer(programs)] : []), code],
      config: { ...config, labels },
    };
  };
}
