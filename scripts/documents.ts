/** What the documents promise, taken out of their Markdown: commands, links and bounds. Pure functions of the text. */

export interface DocumentCommand {
  readonly line: number;
  readonly command: string;
  /** Whether the block is marked to be run by the check: ```sh run. */
  readonly run: boolean;
}

export interface DocumentLink {
  readonly line: number;
  /** As written, without the anchor. */
  readonly target: string;
}

/** One row of a table of bounds: | `NAME` | `value` | `path/of/the/source.ts` | what happens |. */
export interface DocumentBound {
  readonly line: number;
  readonly name: string;
  /** The expression as it must stand in the source; undefined when the cell holds no code. */
  readonly value: string | undefined;
  readonly file: string;
}

/** The commands of all ```sh blocks; a backslash at the end of a line goes on with the next one, # starts a comment. */
export function commandsOf(text: string): DocumentCommand[] {
  const commands: DocumentCommand[] = [];
  let block: { readonly run: boolean } | undefined;
  let inOther = false;
  let pending: { line: number; command: string } | undefined;
  text.split("\n").forEach((raw, index) => {
    const fence = /^```\s*(.*)$/.exec(raw.trim());
    if (fence !== null) {
      const info = (fence[1] ?? "").split(/\s+/);
      if (block !== undefined || inOther) {
        block = undefined;
        inOther = false;
      } else if (info[0] === "sh") block = { run: info.includes("run") };
      else inOther = true;
      return;
    }
    if (block === undefined) return;
    const line = raw.replace(/(^|\s)#.*$/, "").trim();
    if (line === "") return;
    const joined = pending === undefined ? line : `${pending.command} ${line}`;
    const first = pending?.line ?? index + 1;
    pending = undefined;
    if (joined.endsWith("\\")) pending = { line: first, command: joined.slice(0, -1).trim() };
    else commands.push({ line: first, command: joined, run: block.run });
  });
  return commands;
}

/** Links and images that point into the repository. */
export function linksOf(text: string): DocumentLink[] {
  const links: DocumentLink[] = [];
  text.split("\n").forEach((raw, index) => {
    for (const match of raw.replaceAll(/`[^`]*`/g, "").matchAll(/\]\(([^)\s]+)\)|\b(?:src|href)="([^"]+)"/g)) {
      const target = (match[1] ?? match[2] ?? "").replace(/#.*$/, "");
      if (target !== "" && !/^[a-z]+:/.test(target)) links.push({ line: index + 1, target });
    }
  });
  return links;
}

/** Rows whose first cell is a constant in code and whose third is a source file; `a` · `b` in one cell is refused by its shape. */
export function boundsOf(text: string): DocumentBound[] {
  const bounds: DocumentBound[] = [];
  text.split("\n").forEach((raw, index) => {
    const cells = raw
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim());
    const [name, value, file] = cells.map((cell) => /^`([^`]+)`/.exec(cell)?.[1]);
    if (name === undefined || file === undefined || !file.endsWith(".ts")) return;
    bounds.push({ line: index + 1, name, value: value?.replaceAll("\\|", "|"), file });
  });
  return bounds;
}

/** What is wrong with a bound, given the source of the file it names; undefined when it is as the document says. */
export function boundProblem(bound: DocumentBound, source: string | undefined): string | undefined {
  if (source === undefined) return `${bound.file} does not exist`;
  const declarations = new RegExp(
    String.raw`(?:\bconst|\breadonly|\bstatic|[{,(]|^)\s*#?${escape(bound.name)}\??\s*(?::[^=;,]+)?(?:=|:|\?\?=)\s*([^;\n]+)`,
    "gm",
  );
  const values = [...source.matchAll(declarations)].map((match) =>
    (match[1] ?? "").replace(/[,\s})]*(?:\/\/.*)?$/, ""),
  );
  if (values.length === 0) return `${bound.file} has no ${bound.name}`;
  const { value } = bound;
  if (value === undefined || values.some((one) => plain(one) === plain(value))) return undefined;
  return `${bound.name} is ${values.join(" or ")} in ${bound.file}, not ${value}`;
}

/** The first flag among the words of a command that its help does not list; undefined: it lists them all. */
export function unknownFlag(words: readonly string[], help: string): string | undefined {
  const known = new Set([...help.matchAll(/(?<![\w-])--?[a-z][a-z-]*/gi)].map(([flag]) => flag));
  const end = words.indexOf("--");
  return words
    .slice(0, end < 0 ? words.length : end)
    .map((word) => word.replace(/=.*$/, ""))
    .find((word) => /^--?[a-z]/i.test(word) && !known.has(word));
}

/** Without what may be written otherwise. Closing brackets at the end may be those of an object around the bound. */
function plain(expression: string): string {
  return expression.replaceAll(/[\s_]/g, "").replace(/[,})]+$/, "");
}

function escape(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
}
