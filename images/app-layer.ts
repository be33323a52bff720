import { globSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { importGraph, type ModuleFile } from "./import-graph.ts";
import { packageFolderOf, type PackageJson } from "./resolve-module.ts";
import type { TarEntry } from "./tar.ts";

export interface AppFiles {
  /** Repository's root. */
  readonly root: string;
  /** Modules from which imports are followed, relative to the root. */
  readonly entries: readonly string[];
  /** Files that are read, not imported, relative to the root; patterns of node:fs globSync. */
  readonly data?: readonly string[];
}

/** Where the code is in an image. */
export const APP_FOLDER = "app";
const INSIDE_NPM_PACKAGE = /\/node_modules\/(@[^/]+\/)?[^@/][^/]*\/(?!node_modules\/)/;
const NOTICES = /^(licen[cs]e|notice|copying)/i;

/** An app with all that it imports: packages of ours under node_modules/@tulle, npm packages beside them, no types. */
export function appEntries({ root, entries, data = [] }: AppFiles): TarEntry[] {
  const found = new Map<string, TarEntry>();
  const put = (file: string, content: string | Uint8Array) => {
    const path = imagePath(root, file);
    found.set(path, { kind: "file", path, data: typeof content === "string" ? Buffer.from(content) : content });
  };
  const graph = importGraph(entries.map((entry) => join(root, entry)));
  const folders = new Set<string>();
  for (const module of graph.values()) {
    put(module.file, module.kind === "typescript" ? runnable(module) : module.code);
    for (const folder of packageFolders(module.file)) folders.add(folder);
  }
  for (const folder of folders) {
    put(join(folder, "package.json"), packageJson(folder));
    if (!folder.includes(`${sep}node_modules${sep}`)) continue;
    for (const name of readdirSync(folder)) {
      if (NOTICES.test(name) && statSync(join(folder, name)).isFile())
        put(join(folder, name), readFileSync(join(folder, name)));
    }
  }
  for (const pattern of data) {
    const files = globSync(pattern, { cwd: root });
    if (files.length === 0) throw new Error(`images: no file matches ${pattern}`);
    for (const file of files) put(join(root, file), readFileSync(join(root, file)));
  }
  return [...found.values()];
}

/** `packages/base/src/ip.ts` → `app/node_modules/@tulle/base/src/ip.js`. */
export function imagePath(root: string, file: string): string {
  const path = relative(root, file).split(sep).join("/");
  if (path.startsWith("../")) throw new Error(`images: ${file} lies outside of the repository`);
  const renamed = path.replace(/^packages\//, "node_modules/@tulle/");
  // An npm package may hold .ts files as data; ours are all code.
  return `${APP_FOLDER}/${path.includes("node_modules/") ? renamed : renamed.replace(/\.ts$/, ".js")}`;
}

/** Imports of `./x.ts` become `./x.js`: as long as before, so lines and columns of stack traces stay. */
function runnable({ code, imports }: ModuleFile): string {
  let text = code;
  for (const { specifier, index } of imports) {
    if (!specifier.startsWith(".") || !specifier.endsWith(".ts")) continue;
    const end = index + 1 + specifier.length;
    text = `${text.slice(0, end - 3)}.js${text.slice(end)}`;
  }
  return text;
}

/** The folder whose package.json decides about the file and, when that is inside of an npm package, those up to the package's own, which has its name. */
function packageFolders(file: string): string[] {
  const folders = [packageFolderOf(file)];
  for (let [folder] = folders; folder !== undefined && INSIDE_NPM_PACKAGE.test(folder); [folder] = folders) {
    folders.unshift(packageFolderOf(folder));
  }
  return folders;
}

/** Packages of npm keep theirs; ours say what Node needs to find a module. */
function packageJson(folder: string): string {
  const text = readFileSync(join(folder, "package.json"), "utf8");
  if (folder.includes(`${sep}node_modules${sep}`)) return text;
  const { name, version, type, exports } = JSON.parse(text) as PackageJson;
  return `${JSON.stringify({ name, version, type, exports }).replaceAll('.ts"', '.js"')}\n`;
}
