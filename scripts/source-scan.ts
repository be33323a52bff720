/**
 * A source file as far as the import rules need it: its code without comments and strings, and its imports. No parser:
 * TypeScript 7 has no stable API for one, and a scanner of strings and comments is enough to find import statements.
 */
import { stripTypeScriptTypes } from "node:module";

export interface ImportedModule {
  readonly specifier: string;
  /** Where its opening quote stands in the source. */
  readonly index: number;
  /** 1-based. */
  readonly line: number;
}

export interface ScannedSource {
  /** The source with the content of comments, strings, templates and regular expressions blanked; same length, same lines. */
  readonly code: string;
  /** Every module named by import, export … from, import() and new URL("./x.ts", import.meta.url). */
  readonly imports: readonly ImportedModule[];
}

const IMPORTS =
  /\b(?:import|export)\b(?:[\w\s{},*$]*?\bfrom\b)?\s*"|\bimport\s*\(\s*"|\bnew\s+URL\s*\(\s*"(?="[^)]*import\.meta)?/g;
/** After these a slash starts a regular expression; after anything else it divides. */
const BEFORE_REGEX = /(?:^|[=(,:;!&|?{}[+\-*%~^<>]|\b(?:return|typeof|case|in|of|do|else|void|await|yield))\s*$/;

export function scanSource(source: string): ScannedSource {
  const { code, strings } = blankLiterals(source);
  const imports: ImportedModule[] = [];
  for (const match of code.matchAll(IMPORTS)) {
    const quote = match.index + match[0].length - 1;
    const specifier = strings.get(quote);
    if (specifier === undefined) continue;
    // Only modules that a worker starts from: other URLs name folders, data, and the main.ts of processes to start.
    if (match[0].startsWith("new") && !/^\.{1,2}\/.*(?<!\/main)\.ts$/.test(specifier)) continue;
    imports.push({ specifier, index: quote, line: lineAt(source, match.index) });
  }
  return { code, imports };
}

/** The same, of what is left when Node has removed the types: type-only imports are gone. */
export function scanRuntime(source: string): ScannedSource {
  return scanSource(stripTypeScriptTypes(source, { mode: "strip" }));
}

export function lineAt(source: string, index: number): number {
  let line = 1;
  for (let i = source.indexOf("\n"); i >= 0 && i < index; i = source.indexOf("\n", i + 1)) line++;
  return line;
}

/** Blanks literals and comments; `strings` holds the content of each string by the index of its opening quote. */
function blankLiterals(source: string): { code: string; strings: Map<number, string> } {
  const strings = new Map<number, string>();
  /** Depth of braces inside each template substitution that is open. */
  const substitutions: number[] = [];
  let code = "";
  let i = 0;

  const blankTo = (end: number) => {
    code += source.slice(i, end).replaceAll(/[^\n]/g, " ");
    i = end;
  };
  const copy = (length: number) => {
    code += source.slice(i, i + length);
    i += length;
  };
  const template = () => {
    const end = endOf(source, i, (at) => source[at] === "`" || source.startsWith("${", at));
    blankTo(end);
    if (source[i] === "`") return copy(1);
    substitutions.push(0);
    copy(2);
  };

  while (i < source.length) {
    const char = source[i] ?? "";
    if (source.startsWith("//", i)) {
      const end = source.indexOf("\n", i);
      blankTo(end < 0 ? source.length : end);
    } else if (source.startsWith("/*", i)) {
      const end = source.indexOf("*/", i + 2);
      blankTo(end < 0 ? source.length : end + 2);
    } else if (char === '"' || char === "'") {
      const end = endOf(source, i + 1, (at) => source[at] === char || source[at] === "\n");
      strings.set(i, source.slice(i + 1, end));
      code += '"';
      i++;
      blankTo(end);
      if (source[i] === char) {
        code += '"';
        i++;
      }
    } else if (char === "`") {
      copy(1);
      template();
    } else if (char === "/" && BEFORE_REGEX.test(code.slice(-80))) {
      let inClass = false;
      const end = endOf(source, i + 1, (at) => {
        if (source[at] === "[") inClass = true;
        else if (source[at] === "]") inClass = false;
        return (source[at] === "/" && !inClass) || source[at] === "\n";
      });
      blankTo(Math.min(source.length, end + 1));
    } else if (substitutions.length > 0 && (char === "{" || char === "}")) {
      const depth = substitutions.pop() ?? 0;
      copy(1);
      if (char === "{") substitutions.push(depth + 1);
      else if (depth > 0) substitutions.push(depth - 1);
      else template();
    } else copy(1);
  }
  return { code, strings };
}

/** The first index from `start` where `found` holds and that no backslash escapes; the end of the source if there is none. */
function endOf(source: string, start: number, found: (at: number) => boolean): number {
  let i = start;
  while (i < source.length && !found(i)) i += source[i] === "\\" ? 2 : 1;
  return Math.min(i, source.length);
}
