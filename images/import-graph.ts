import { readFileSync } from "node:fs";
import { isBuiltin, stripTypeScriptTypes } from "node:module";
import { scanSource } from "../scripts/source-scan.ts";
import { packageFolderOf, readPackage, resolveImport, resolveRequire } from "./resolve-module.ts";

/** A module with what it is at run time: types erased, imports found. */
export interface ModuleFile {
  /** Absolute, links resolved. */
  readonly file: string;
  readonly kind: "typescript" | "module" | "commonjs" | "data";
  /** What runs; for TypeScript without types, at the same lines and columns. */
  readonly code: string;
  readonly imports: readonly ImportSite[];
}

export interface ImportSite {
  readonly specifier: string;
  /** Of the specifier's opening quote in `code`. */
  readonly index: number;
  /** The imported file; undefined for Node's own modules. */
  readonly file: string | undefined;
}

const REQUIRE = /\brequire\s*\(\s*"/g;

/**
 * Everything that `roots` import at run time, themselves included, by file. Throws when a module of ours imports what is
 * not there; packages from npm try optional ones and do without.
 */
export function importGraph(roots: readonly string[]): ReadonlyMap<string, ModuleFile> {
  const modules = new Map<string, ModuleFile>();
  const queue = [...roots];
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    if (modules.has(file)) continue;
    const module = readModule(file);
    modules.set(file, module);
    for (const site of module.imports) if (site.file !== undefined) queue.push(site.file);
  }
  return modules;
}

function readModule(file: string): ModuleFile {
  const source = readFileSync(file, "utf8");
  const kind = kindOf(file);
  if (kind === "data") return { file, kind, code: source, imports: [] };
  const code = kind === "typescript" ? stripTypeScriptTypes(source, { mode: "strip" }) : source;
  const scanned = scanSource(code);
  const imports: ImportSite[] = [];
  const add = (specifier: string, index: number, resolve: typeof resolveImport) => {
    const target = isBuiltin(specifier) ? undefined : resolve(specifier, file);
    if (target !== undefined || isBuiltin(specifier)) imports.push({ specifier, index, file: target });
    else if (kind === "typescript")
      throw new Error(`${file} imports ${specifier}, which is not there; run: npm install`);
  };
  for (const { specifier, index } of scanned.imports) add(specifier, index, resolveImport);
  if (kind === "commonjs") {
    for (const match of scanned.code.matchAll(REQUIRE)) {
      const index = match.index + match[0].length - 1;
      const end = code.indexOf(code[index] ?? '"', index + 1);
      add(code.slice(index + 1, end), index, resolveRequire);
    }
  }
  return { file, kind, code, imports };
}

function kindOf(file: string): ModuleFile["kind"] {
  if (file.endsWith(".ts")) return "typescript";
  if (file.endsWith(".mjs")) return "module";
  if (file.endsWith(".cjs")) return "commonjs";
  if (!file.endsWith(".js")) return "data";
  return readPackage(packageFolderOf(file)).type === "module" ? "module" : "commonjs";
}
