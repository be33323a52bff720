import { importGraph, type ModuleFile } from "./import-graph.ts";
import { scanSource } from "../scripts/source-scan.ts";

/**
 * One CommonJS script of a module and all that it imports: each module becomes a function that returns its exports. Serves
 * programs that start once per event and load from one file; it knows the forms of import and export that this repository
 * uses and refuses all others. No npm packages, no cycles.
 */
export function bundle(entry: string): string {
  const graph = importGraph([entry]);
  const order = inOrder(entry, graph);
  const names = new Map(order.map((file, index) => [file, `m${index}`]));
  const parts = order.map((file) => {
    const module = graph.get(file) as ModuleFile;
    if (module.kind !== "typescript") throw new Error(`bundle: ${file} is no TypeScript`);
    return `const ${names.get(file)} = (() => {\n${bodyOf(module, names)}\n})();`;
  });
  return `"use strict";\n${parts.join("\n")}\n`;
}

/** What a module imports comes before it. */
function inOrder(entry: string, graph: ReadonlyMap<string, ModuleFile>): readonly string[] {
  const order: string[] = [];
  const open = new Set<string>();
  const visit = (file: string) => {
    if (order.includes(file)) return;
    if (open.has(file)) throw new Error(`bundle: ${file} imports itself through others`);
    open.add(file);
    for (const { file: imported } of graph.get(file)?.imports ?? []) if (imported !== undefined) visit(imported);
    order.push(file);
  };
  visit(entry);
  return order;
}

const STATEMENT = /^(import|export)\s+([^"']*?)\s*from\s*"|^import\s*(?=")|\bimport\s*\(\s*(?=")/gm;
const DECLARATION = /^export\s+(?=(?:async\s+function\*?|function\*?|class|const)\s+(\w+))/gm;

function bodyOf(module: ModuleFile, names: ReadonlyMap<string, string>): string {
  const { file, code } = module;
  const masked = scanSource(code).code;
  /** Replacements, by place. */
  const edits: { readonly start: number; readonly end: number; readonly text: string }[] = [];
  const exported: string[] = [];
  const reexported: string[] = [];

  for (const { specifier, index, file: target } of module.imports) {
    const source = target === undefined ? `require(${JSON.stringify(specifier)})` : (names.get(target) ?? "");
    const match = [...masked.matchAll(STATEMENT)].find(({ index: at, 0: text }) => {
      const quote = text.endsWith('"') ? at + text.length - 1 : at + text.length;
      return quote === index;
    });
    if (match === undefined)
      throw new Error(`bundle: in ${file}, "${specifier}" is imported in a way that is not known`);
    const end = index + specifier.length + 2;
    const [text, keyword, names_ = ""] = match;
    const edit = (replacement: string, to = end) => edits.push({ start: match.index, end: to, text: replacement });
    if (text.includes("(")) edit(`Promise.resolve(${source})`, masked.indexOf(")", end) + 1);
    else if (keyword === undefined) edit("");
    else if (keyword === "export") {
      if (names_ !== "*") throw new Error(`bundle: in ${file}, only "export * from" is known`);
      reexported.push(`...${source}`);
      edit("");
    } else edit(`${bindingOf(names_, file)} = ${source}`);
  }
  for (const match of masked.matchAll(DECLARATION)) {
    exported.push(match[1] ?? "");
    edits.push({ start: match.index, end: match.index + match[0].length, text: "" });
  }
  const text = applied(code, edits);
  const left = /^(?:import|export)\b.*|\bimport\.meta\b.*/m.exec(scanSource(text).code);
  if (left !== null) throw new Error(`bundle: in ${file}, not known: ${left[0]}`);
  return `${text.trim()}\nreturn { ${[...reexported, ...exported].join(", ")} };`;
}

/** `{ a, b as c }` → `const { a, b: c }`; `* as x` → `const x`. */
function bindingOf(clause: string, file: string): string {
  const namespace = /^\*\s+as\s+(\w+)$/.exec(clause);
  if (namespace !== null) return `const ${namespace[1]}`;
  const list = /^\{([\w\s,]*)\}$/.exec(clause);
  if (list === null) throw new Error(`bundle: in ${file}, not known: import ${clause}`);
  return `const {${list[1]?.replaceAll(/\s+as\s+/g, ": ")}}`;
}

function applied(
  code: string,
  edits: readonly { readonly start: number; readonly end: number; readonly text: string }[],
): string {
  let text = "";
  let at = 0;
  for (const edit of edits.toSorted((a, b) => a.start - b.start)) {
    text += code.slice(at, edit.start) + edit.text;
    at = edit.end;
  }
  return text + code.slice(at);
}
