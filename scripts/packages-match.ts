/**
 * Exits 0 when node_modules holds what package-lock.json asks for, 1 when it does not: `node packages-match.ts ROOT`.
 * Saves an `npm ci` (which removes node_modules first) when only the record of the last one is missing.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

interface LockEntry {
  readonly version?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly optional?: boolean;
}

const root = process.argv[2] ?? ".";
const wanted = entriesOf(join(root, "package-lock.json"));
const present = entriesOf(join(root, "node_modules/.package-lock.json"));

let differences = 0;
for (const [path, entry] of Object.entries(wanted)) {
  if (path === "" || !path.includes("node_modules/")) continue;
  const there = existsSync(join(root, path));
  // An optional package may be for another machine.
  if (entry.optional && !there) continue;
  const same = entry.link || (present[path]?.version === entry.version && present[path]?.integrity === entry.integrity);
  if (!there || !same) differences++;
}
process.exitCode = differences === 0 ? 0 : 1;

function entriesOf(path: string): Record<string, LockEntry> {
  const lock = JSON.parse(readFileSync(path, "utf8")) as { readonly packages?: Record<string, LockEntry> };
  return lock.packages ?? {};
}
