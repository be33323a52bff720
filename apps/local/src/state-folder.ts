import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { LOCAL_STATE_FOLDER } from "@tulle/base";
import { replaceFile } from "./system/tokens.ts";

/** What of a mesh outlives its runs: the objects, the keys, the range of its addresses. */

const RANGE_FILE = "range.json";

/** The folder of the mesh of this name. */
export function stateFolder(name: string): string {
  return join(LOCAL_STATE_FOLDER, name);
}

/** Makes it, for root alone. */
export function makeStateFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  chmodSync(folder, 0o700);
}

export function removeStateFolder(folder: string): boolean {
  const there = existsSync(folder);
  rmSync(folder, { recursive: true, force: true });
  return there;
}

/** The second octet of the range that the mesh had last. */
export function knownRange(folder: string): number | undefined {
  try {
    const { second } = JSON.parse(readFileSync(join(folder, RANGE_FILE), "utf8")) as { readonly second?: unknown };
    return typeof second === "number" && second > 0 && second < 256 ? second : undefined;
  } catch {
    // The first run, or half a file: any range will do.
    return undefined;
  }
}

export function rememberRange(folder: string, second: number): void {
  replaceFile(join(folder, RANGE_FILE), JSON.stringify({ second }), 0o600);
}
