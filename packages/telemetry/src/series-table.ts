import type { Schema } from "./metric-families.ts";

/**
 * Label tuples and their numbers in shared memory. One thread writes: it interns a tuple once and from then on adds to
 * the series' numbers directly. Another thread reads whenever it likes: counts are exact and cost the writer nothing.
 * The table only grows; when it is full, new tuples of a schema share one series whose labels all say `overflow`.
 */

export interface SeriesTableOptions {
  /** Series at most, overflow series included. Default 16,384. */
  readonly series?: number;
  /** Bytes for distinct label values. Default 2 MiB. */
  readonly stringBytes?: number;
}

/** A node of 200 pods that each talk with 40 others, both directions. */
const DEFAULT_SERIES = 16_384;
const DEFAULT_STRING_BYTES = 2 << 20;
/** Mean room for a series; TCP needs 29 words and 5 numbers. */
const WORDS_PER_SERIES = 32;
const CELLS_PER_SERIES = 8;
/** Longer label values are cut: peers choose some of them. */
const MAX_LABEL_LENGTH = 256;

export const LABEL_OVERFLOW = "overflow";
export const LABEL_UNKNOWN = "unknown";
/** Stands for a label that is not printed. */
export const ABSENT = 0;
/** Stands for a label value that found no room. */
export const NO_ROOM = -1;

/** Words of the header. */
const SERIES_COUNT = 0;
const OVERFLOWED = 1;
const SERIES_LIMIT = 2;
const STRING_BYTES = 3;
const HEADER_WORDS = 16;

export interface AddedSeries {
  /** The index of the series' first number in `cells`. */
  readonly cell: number;
  readonly full: boolean;
}

/** The parts of the memory; both sides compute them from its header. Pages that are never written cost no memory. */
export interface SeriesMemory {
  readonly header: Int32Array;
  /** Series → where its words begin. */
  readonly index: Uint32Array;
  /** Per series: schema, first cell, then one string per label. */
  readonly words: Uint32Array;
  /** Float64: exact to 2^53, and written as one word on the 64-bit machines that Tulle runs on. */
  readonly cells: Float64Array;
  /** Strings: two bytes of length, then UTF-8. A string's id is its offset; 0 is no string. */
  readonly strings: Buffer;
  readonly limit: number;
}

export function createSeriesMemory(options: SeriesTableOptions = {}): SharedArrayBuffer {
  const series = options.series ?? DEFAULT_SERIES;
  const stringBytes = options.stringBytes ?? DEFAULT_STRING_BYTES;
  const words = HEADER_WORDS + series + series * WORDS_PER_SERIES;
  const memory = new SharedArrayBuffer(align(words * 4) + series * CELLS_PER_SERIES * 8 + stringBytes);
  const header = new Int32Array(memory, 0, HEADER_WORDS);
  header[SERIES_LIMIT] = series;
  header[STRING_BYTES] = stringBytes;
  return memory;
}

export function openSeriesMemory(memory: SharedArrayBuffer): SeriesMemory {
  const header = new Int32Array(memory, 0, HEADER_WORDS);
  const limit = header[SERIES_LIMIT] ?? 0;
  const cellsAt = align((HEADER_WORDS + limit + limit * WORDS_PER_SERIES) * 4);
  const stringsAt = cellsAt + limit * CELLS_PER_SERIES * 8;
  return {
    header,
    index: new Uint32Array(memory, HEADER_WORDS * 4, limit),
    words: new Uint32Array(memory, (HEADER_WORDS + limit) * 4, limit * WORDS_PER_SERIES),
    cells: new Float64Array(memory, cellsAt, limit * CELLS_PER_SERIES),
    strings: Buffer.from(memory, stringsAt, header[STRING_BYTES]),
    limit,
  };
}

/** How many series are complete, and how many tuples found no room. */
export function seriesCounts(memory: SeriesMemory): { readonly series: number; readonly overflowed: number } {
  return {
    series: Atomics.load(memory.header, SERIES_COUNT),
    overflowed: Atomics.load(memory.header, OVERFLOWED) >>> 0,
  };
}

/** The writing side; one per memory. */
export class SeriesTable {
  readonly cells: Float64Array;
  readonly #memory: SeriesMemory;
  readonly #strings = new Map<string, number>();
  readonly #overflow: number[] = [];
  #series = 0;
  #wordsUsed = 0;
  #cellsUsed = 0;
  #bytesUsed = 1;

  /** `schemas`: those that this table will hold; room for the overflow series of each is set aside at once. */
  constructor(memory: SharedArrayBuffer, schemas: readonly Schema[]) {
    this.#memory = openSeriesMemory(memory);
    this.cells = this.#memory.cells;
    const overflow = this.string(LABEL_OVERFLOW);
    for (const schema of schemas) {
      const cell = this.#append(
        schema,
        schema.labels.map(() => overflow),
      );
      if (cell < 0) throw new RangeError("the series table is too small for its overflow series");
      this.#overflow[schema.id] = cell;
    }
  }

  /** The id of a label value, or NO_ROOM. Empty and undefined are "unknown". */
  string(value: string | undefined): number {
    const text = labelText(value);
    const known = this.#strings.get(text);
    if (known !== undefined) return known;
    const bytes = Buffer.byteLength(text);
    const id = this.#bytesUsed;
    if (id + 2 + bytes > this.#memory.strings.length) return NO_ROOM;
    this.#memory.strings.write(text, id + 2, bytes, "utf8");
    this.#memory.strings.writeUInt16LE(bytes, id);
    this.#bytesUsed = id + 2 + bytes;
    this.#strings.set(text, id);
    return id;
  }

  /**
   * A new series: where its numbers are in `cells`; `full` is then the overflow series and tells the caller not to
   * remember it. Asking twice makes two series, which the reader adds up. `labels` are ids of `string`, or ABSENT.
   */
  add(schema: Schema, labels: readonly number[]): AddedSeries {
    const cell = labels.includes(NO_ROOM) ? -1 : this.#append(schema, labels);
    return cell < 0 ? this.overflow(schema) : { cell, full: false };
  }

  /** The schema's overflow series; counts one more tuple that found no room. */
  overflow(schema: Schema): AddedSeries {
    Atomics.add(this.#memory.header, OVERFLOWED, 1);
    return { cell: this.#overflow[schema.id] ?? 0, full: true };
  }

  #append(schema: Schema, labels: readonly number[]): number {
    const { index, words, cells, limit, header } = this.#memory;
    const at = this.#wordsUsed;
    const cell = this.#cellsUsed;
    const end = at + 2 + schema.labels.length;
    if (this.#series >= limit || end > words.length || cell + schema.cells > cells.length) return -1;
    words[at] = schema.id;
    words[at + 1] = cell;
    for (let i = 0; i < schema.labels.length; i++) words[at + 2 + i] = labels[i] ?? ABSENT;
    index[this.#series] = at;
    this.#wordsUsed = end;
    this.#cellsUsed = cell + schema.cells;
    this.#series++;
    // Publishes: a reader that sees the count sees the words and the strings.
    Atomics.store(header, SERIES_COUNT, this.#series);
    return cell;
  }
}

function labelText(value: string | undefined): string {
  if (value === undefined || value === "") return LABEL_UNKNOWN;
  if (value.length <= MAX_LABEL_LENGTH) return value;
  // By way of bytes: a slice alone would keep the whole of a long value alive.
  return Buffer.from(value.slice(0, MAX_LABEL_LENGTH)).toString();
}

function align(bytes: number): number {
  return (bytes + 7) & ~7;
}
