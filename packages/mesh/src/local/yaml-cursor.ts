import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type LineCounter,
  type Node,
  type Pair,
  type ParsedNode,
} from "yaml";

/** Something in the file is not as it should be. `message` begins with `line:column: path:`. */
export class LocalFileError extends Error {}

/** Nodes read in all, those behind aliases counted each time: an alias bomb ends here. */
const MAX_NODES = 2_000_000;

export interface YamlSource {
  readonly document: Document<ParsedNode>;
  readonly lines: LineCounter;
  nodesLeft: number;
}

export function yamlSource(document: Document<ParsedNode>, lines: LineCounter): YamlSource {
  return { document, lines, nodesLeft: MAX_NODES };
}

/** A place in a YAML file that is read as what it should be; every complaint says where and what. */
export class YamlCursor {
  readonly #source: YamlSource;
  readonly #node: Node | null;
  /** Where a missing or null value would be. */
  readonly #near: Node | null;
  readonly path: string;

  constructor(source: YamlSource, node: Node | null, path: string, near: Node | null = node) {
    if (source.nodesLeft-- <= 0) throw new LocalFileError(`more than ${MAX_NODES} values`);
    this.#source = source;
    this.#node = isAlias(node) ? (node.resolve(source.document) ?? null) : node;
    this.#near = near;
    this.path = path;
  }

  fail(problem: string): never {
    const offset = (this.#node ?? this.#near)?.range?.[0] ?? 0;
    const { line, col } = this.#source.lines.linePos(offset);
    throw new LocalFileError(`${line}:${col}: ${this.path === "" ? "" : `${this.path}: `}${problem}`);
  }

  get isNull(): boolean {
    return this.#node === null || (isScalar(this.#node) && this.#node.value === null);
  }

  /** The fields of a mapping. Keys that are not `known` are errors; so are `required` ones that are missing. */
  fields(known: readonly string[], required: readonly string[] = []): ReadonlyMap<string, YamlCursor> {
    const fields = new Map<string, YamlCursor>();
    for (const [key, value] of this.entries()) {
      if (!known.includes(key)) value.fail(`unknown key (known are ${known.join(", ")})`);
      fields.set(key, value);
    }
    const missing = required.filter((key) => !fields.has(key));
    if (missing.length > 0) this.fail(`missing ${missing.join(", ")}`);
    return fields;
  }

  entries(): readonly (readonly [key: string, value: YamlCursor])[] {
    const node = this.#node;
    if (!isMap(node)) return this.#expected("a mapping");
    return node.items.map((pair: Pair) => {
      const { key, value } = pair;
      const name = isScalar(key) ? String(key.value) : this.#expected("plain keys");
      const path = this.path === "" ? name : `${this.path}.${name}`;
      return [name, new YamlCursor(this.#source, (value ?? null) as Node | null, path, key as Node)] as const;
    });
  }

  list<T>(read: (item: YamlCursor) => T): readonly T[] {
    const node = this.#node;
    if (!isSeq(node)) return this.#expected("a list");
    return node.items.map((item, i) => read(new YamlCursor(this.#source, item as Node | null, `${this.path}[${i}]`)));
  }

  text(): string {
    const value = this.#scalar();
    return typeof value === "string" ? value : this.#expected("a string");
  }

  flag(): boolean {
    const value = this.#scalar();
    return typeof value === "boolean" ? value : this.#expected("true or false");
  }

  /** A whole number from 0 to `max`. */
  number(max: number): number {
    const value = this.#scalar();
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > max) {
      return this.#expected(`a whole number from 0 to ${max}`);
    }
    return value;
  }

  choice<T extends string>(values: readonly T[]): T {
    const text = this.text();
    return values.find((value) => value === text) ?? this.#expected(values.join(" or "));
  }

  #scalar(): unknown {
    return isScalar(this.#node) ? this.#node.value : undefined;
  }

  #expected(what: string): never {
    const node = this.#node;
    let found = "nothing";
    if (isScalar(node)) found = JSON.stringify(node.value) ?? "nothing";
    else if (isMap(node)) found = "a mapping";
    else if (isSeq(node)) found = "a list";
    return this.fail(`expected ${what}, found ${found}`);
  }
}
