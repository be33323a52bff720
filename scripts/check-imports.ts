/** Prints every import that breaks the rules of import-rules.ts, and exits 1 when there is one. */
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { checkDataThreads, checkFile, type Violation, type Workspace } from "./import-rules.ts";

interface PackageJson {
  readonly name?: string;
  readonly exports?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

const root = dirname(import.meta.dirname);
const SOURCES = "{packages,apps,test,bench,images,scripts,samples}/**/*.{js,ts}";

const files = globSync(SOURCES, { cwd: root, exclude: (path) => /(^|\/)(node_modules|gen)$/.test(path) }).toSorted();
const workspace = readWorkspace();
const violations: Violation[] = [];
for (const file of files) violations.push(...checkFile(file, read(file) ?? "", workspace));
violations.push(...checkDataThreads(files, read, workspace));

for (const { file, line, text } of violations) console.error(`${file}:${line}: ${text}`);
if (files.length === 0) console.error("no sources found");
process.exitCode = violations.length === 0 && files.length > 0 ? 0 : 1;

function read(file: string): string | undefined {
  const path = join(root, file);
  return existsSync(path) ? readFileSync(path, "utf8") : undefined;
}

function readWorkspace(): Workspace {
  const entries = new Map<string, string>();
  const byFolder = new Map<string, Set<string>>();
  for (const path of globSync("{packages,apps,samples}/*/package.json", { cwd: root })) {
    const folder = dirname(path);
    const { name = "", exports = {}, dependencies = {} } = readJson(path);
    byFolder.set(folder, new Set(Object.keys(dependencies)));
    for (const [entry, file] of Object.entries(exports)) entries.set(posix.join(name, entry), posix.join(folder, file));
  }
  return { entries, byFolder, development: new Set(Object.keys(readJson("package.json").devDependencies ?? {})) };
}

function readJson(path: string): PackageJson {
  return JSON.parse(readFileSync(join(root, path), "utf8")) as PackageJson;
}
