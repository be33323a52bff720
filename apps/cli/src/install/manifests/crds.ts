import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { KubeObject } from "@tulle/store";
import { parseAllDocuments } from "yaml";

/** Schemas of Gateway API and Istio as they were fetched by scripts/crds. */

const FOLDER = fileURLToPath(new URL("../../../../../crds", import.meta.url));

/** In the order of their names. Takes most of a second: more than a megabyte of YAML. */
export function readCrds(folder: string = FOLDER): KubeObject[] {
  const files = globSync("{gateway-api,istio}/*.yaml", { cwd: folder }).toSorted();
  if (files.length === 0) throw new Error(`${folder} holds no schemas: the installation of tulle is not whole`);
  return files
    .flatMap((file) => parseAllDocuments(readFileSync(`${folder}/${file}`, "utf8")))
    .map((document) => document.toJS() as KubeObject | null)
    .filter((object) => object !== null)
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}
