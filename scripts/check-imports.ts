/** Prints every import that breaks the rules of import-rules.ts, and exits 1 when there is one. */
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { checkDataThreads, checkFile, type NpmDependencies, type Violation } from "./import-rules.ts";

interface PackageJson {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

const root = dirname(import.meta.dirname);
const SOURCES = "{packages,apps,test,bench,scripts,samples}/**/*.ts";

const files = globSync(SOURCES, { cwd: root, exclude: (path) => /(^|\/)(node_modules|gen)$/.test(path) }).toSorted();
const npm = dependencies();
const violations: Violation[] = [];
for (const file of files) violations.push(...checkFile(file, read(file) ?? "", npm));
violations.push(...checkDataThreads(files, read));

for (const { file, line, text } of violations) console.error(`${file}:${line}: ${text}`);
if (files.length === 0) console.error("no sources found");
process.exitCode = violations.length === 0 && files.length > 0 ? 0 : 1;

function read(file: string): string | undefined {
  const path = join(root, file);
  return existsSync(path) ? readFileSync(path, "utf8") : undefined;
}

function dependencies(): NpmDependencies {
  const byFolder = new Map<string, Set<string>>();
  for (const path of globSync("{packages,apps,samples}/*/package.json", { cwd: root })) {
    byFolder.set(dirname(path), new Set(Object.keys(readJson(path).dependencies ?? {})));
  }
  return { byFolder, development: new Set(Object.keys(readJson("package.json").devDependencies ?? {})) };
}

function readJson(path: string): PackageJson {
  return JSON.parse(readFileSync(join(root, path), "utf8")) as PackageJson;
}
