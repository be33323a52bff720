import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/**
 * Which file an import names, by Node's rules (https://nodejs.org/api/esm.html#resolution-algorithm) and without running
 * anything: `import.meta.resolve` knows only the importer that it stands in.
 */

export interface PackageJson {
  readonly name?: string;
  readonly version?: string;
  readonly type?: string;
  readonly main?: string;
  readonly exports?: ExportsTarget;
  readonly imports?: Readonly<Record<string, ExportsTarget>>;
}

type ExportsTarget = string | null | readonly ExportsTarget[] | { readonly [key: string]: ExportsTarget };

const IMPORT_CONDITIONS = ["node", "import", "module-sync", "default"];

/** Undefined: there is no such module. */
export function resolveImport(specifier: string, importer: string): string | undefined {
  if (specifier.startsWith(".")) return fileAt(join(dirname(importer), specifier));
  if (specifier.startsWith("#")) {
    const owner = packageFolderOf(importer);
    const target = targetOf(readPackage(owner).imports ?? {}, specifier);
    if (target === undefined) return undefined;
    return target.startsWith(".") ? fileAt(join(owner, target)) : resolveImport(target, importer);
  }
  const parts = specifier.split("/");
  const name = parts.splice(0, specifier.startsWith("@") ? 2 : 1).join("/");
  const folder = installedAt(name, importer);
  if (folder === undefined) return undefined;
  const { exports, main } = readPackage(folder);
  const subpath = [".", ...parts].join("/");
  if (exports === undefined || exports === null) {
    return subpath === "." ? fileAt(join(folder, main ?? "index.js")) : fileAt(join(folder, subpath));
  }
  const map = isSubpathMap(exports) ? exports : { ".": exports };
  const target = targetOf(map, subpath);
  return target === undefined ? undefined : fileAt(join(folder, target));
}

export function resolveRequire(specifier: string, importer: string): string | undefined {
  try {
    return realpathSync(createRequire(importer).resolve(specifier));
  } catch {
    // Not there: the caller says whether that matters.
    return undefined;
  }
}

/** The folder of the package.json that decides about `file`. */
export function packageFolderOf(file: string): string {
  for (let folder = dirname(file); ; folder = dirname(folder)) {
    if (existsSync(join(folder, "package.json"))) return folder;
    if (folder === "/") throw new Error(`no package.json above ${file}`);
  }
}

export function readPackage(folder: string): PackageJson {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as PackageJson;
}

function installedAt(name: string, importer: string): string | undefined {
  const own = packageFolderOf(importer);
  if (readPackage(own).name === name) return own;
  for (let folder = dirname(importer); ; folder = dirname(folder)) {
    const candidate = join(folder, "node_modules", name);
    if (existsSync(join(candidate, "package.json"))) return realpathSync(candidate);
    if (folder === "/") return undefined;
  }
}

function isSubpathMap(target: ExportsTarget): target is Readonly<Record<string, ExportsTarget>> {
  return (
    typeof target === "object" && !Array.isArray(target) && Object.keys(target ?? {}).some((key) => key.startsWith("."))
  );
}

function targetOf(map: Readonly<Record<string, ExportsTarget>>, key: string): string | undefined {
  const exact = map[key];
  if (exact !== undefined) return conditional(exact);
  const patterns = Object.keys(map).filter((pattern) => pattern.includes("*"));
  // The longest prefix is the most specific one.
  for (const pattern of patterns.toSorted((a, b) => b.indexOf("*") - a.indexOf("*"))) {
    const [before = "", after = ""] = pattern.split("*", 2);
    if (key.length < pattern.length || !key.startsWith(before) || !key.endsWith(after)) continue;
    const target = conditional(map[pattern] ?? null);
    return target?.replaceAll("*", key.slice(before.length, key.length - after.length));
  }
  return undefined;
}

function conditional(target: ExportsTarget): string | undefined {
  if (target === null || typeof target === "string") return target ?? undefined;
  const options = Array.isArray(target)
    ? (target as readonly ExportsTarget[])
    : Object.entries(target)
        .filter(([condition]) => IMPORT_CONDITIONS.includes(condition))
        .map(([, value]) => value);
  for (const option of options) {
    const found = conditional(option);
    if (found !== undefined) return found;
  }
  return undefined;
}

function fileAt(path: string): string | undefined {
  return existsSync(path) && statSync(path).isFile() ? realpathSync(path) : undefined;
}
