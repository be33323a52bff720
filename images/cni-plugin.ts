import { join } from "node:path";
import { NODE_PATH } from "./base-layer.ts";
import { bundle } from "./bundle.ts";
import { LIBRARY_FOLDER, LOADER } from "./debian-files.ts";
import type { TarEntry } from "./tar.ts";

/** Where the node agent's image keeps what its installer puts on the host (apps/node-agent/src/installer). */
export const PLUGIN_FOLDER = "app/cni";
/** Enough to tell versions apart, short enough for the first line of a script. */
const ID_LENGTH = 12;

/**
 * The plugin as one script, and which files of the image it needs to run where there is nothing but a kernel. `content`
 * is a digest over those files.
 */
export function pluginEntries(root: string, libraries: readonly string[], content: string): TarEntry[] {
  const runtime = {
    id: content.slice(-ID_LENGTH),
    node: `/${NODE_PATH}`,
    loader: `/${LIBRARY_FOLDER}/${LOADER}`,
    libraries: libraries.filter((name) => name !== LOADER).map((name) => `/${LIBRARY_FOLDER}/${name}`),
  };
  return [
    {
      kind: "file",
      path: `${PLUGIN_FOLDER}/istio-cni.js`,
      data: Buffer.from(bundle(join(root, "apps/cni-plugin/src/main.ts"))),
    },
    { kind: "file", path: `${PLUGIN_FOLDER}/runtime.json`, data: Buffer.from(`${JSON.stringify(runtime)}\n`) },
  ];
}
