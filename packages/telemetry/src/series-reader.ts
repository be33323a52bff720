import { type Family, SCHEMAS, type Schema } from "./metric-families.ts";
import { ABSENT, LABEL_OVERFLOW, openSeriesMemory, type SeriesMemory, seriesCounts } from "./series-table.ts";

/** One label tuple, added up over all tables that know it. */
export interface MergedSeries {
  /** `name="value"` pairs in order, without braces; "" without labels. */
  labels(): string;
  /** The sum of number `cell` of the series over all tables. */
  value(cell: number): number;
  /** The series that stands for tuples that found no room. */
  readonly overflow: boolean;
}

/** Reads the series of several tables as one. Holds ids, not texts, so that it stays small. */
export class SeriesReader {
  readonly #tables: Table[] = [];
  readonly #merged = new Map<number, Map<string, Merged>>();
  readonly #texts = new Texts();

  addTable(memory: SharedArrayBuffer): void {
    this.#tables.push(new Table(openSeriesMemory(memory), this.#texts));
  }

  /** Every series of a schema, as they are now. */
  series(schema: Schema): Iterable<MergedSeries> {
    return this.#merged.get(schema.id)?.values() ?? [];
  }

  /** Takes in series that were added since the last time. */
  refresh(): void {
    for (const table of this.#tables) {
      table.readNew((schema, labels, cell) => {
        let tuples = this.#merged.get(schema.id);
        if (tuples === undefined) {
          tuples = new Map();
          this.#merged.set(schema.id, tuples);
        }
        const key = labels.join();
        let merged = tuples.get(key);
        if (merged === undefined) {
          merged = new Merged(schema, labels, this.#texts);
          tuples.set(key, merged);
        }
        merged.add(table.memory.cells, cell);
      });
    }
  }

  /** Tuples that found no room, per table in the order in which they were added. */
  overflowed(): readonly number[] {
    return this.#tables.map((table) => seriesCounts(table.memory).overflowed);
  }
}

/** Zeros that are printed: gauges of what exists, and everything that has no labels. */
export function isShown(schema: Schema, family: Family, series: MergedSeries, value: number): boolean {
  return value !== 0 || schema.labels.length === 0 || (family.type === "gauge" && !series.overflow);
}

class Merged implements MergedSeries {
  readonly overflow: boolean;
  readonly #schema: Schema;
  readonly #labels: readonly number[];
  readonly #texts: Texts;
  readonly #sources: { readonly cells: Float64Array; readonly cell: number }[] = [];

  constructor(schema: Schema, labels: readonly number[], texts: Texts) {
    this.#schema = schema;
    this.#labels = labels;
    this.#texts = texts;
    this.overflow = labels.length > 0 && labels.every((label) => texts.escaped(label) === LABEL_OVERFLOW);
  }

  add(cells: Float64Array, cell: number): void {
    this.#sources.push({ cells, cell });
  }

  value(cell: number): number {
    let sum = 0;
    for (const source of this.#sources) sum += source.cells[source.cell + cell] ?? 0;
    return sum;
  }

  labels(): string {
    let text = "";
    this.#schema.labels.forEach((name, i) => {
      const id = this.#labels[i] ?? ABSENT;
      if (id === ABSENT) return;
      text += `${text === "" ? "" : ","}${name}="${this.#texts.escaped(id)}"`;
    });
    return text;
  }
}

/** Label values of all tables, numbered from 1; 0 is ABSENT. */
class Texts {
  readonly #ids = new Map<string, number>();
  readonly #escaped: string[] = [""];

  id(text: string): number {
    let id = this.#ids.get(text);
    if (id === undefined) {
      id = this.#escaped.length;
      this.#ids.set(text, id);
      this.#escaped.push(escapeLabel(text));
    }
    return id;
  }

  escaped(id: number): string {
    return this.#escaped[id] ?? "";
  }
}

class Table {
  readonly memory: SeriesMemory;
  readonly #texts: Texts;
  /** A string's offset in this table → its number among all. */
  readonly #ids = new Map<number, number>([[ABSENT, ABSENT]]);
  #read = 0;

  constructor(memory: SeriesMemory, texts: Texts) {
    this.memory = memory;
    this.#texts = texts;
  }

  readNew(found: (schema: Schema, labels: readonly number[], cell: number) => void): void {
    const { series } = seriesCounts(this.memory);
    for (; this.#read < series; this.#read++) {
      const at = this.memory.index[this.#read] ?? 0;
      const schema = SCHEMAS[this.memory.words[at] ?? 0];
      if (schema === undefined) continue;
      const words = this.memory.words.subarray(at + 2, at + 2 + schema.labels.length);
      found(
        schema,
        Array.from(words, (word) => this.#id(word)),
        this.memory.words[at + 1] ?? 0,
      );
    }
  }

  #id(offset: number): number {
    let id = this.#ids.get(offset);
    if (id === undefined) {
      const length = this.memory.strings.readUInt16LE(offset);
      id = this.#texts.id(this.memory.strings.toString("utf8", offset + 2, offset + 2 + length));
      this.#ids.set(offset, id);
    }
    return id;
  }
}

function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
