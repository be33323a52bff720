import type { HeaderField } from "./hpack-decoder.ts";
import { DEFAULT_TABLE_SIZE } from "./hpack-decoder.ts";
import { STATIC_COUNT, STATIC_TABLE } from "./hpack-static.ts";
import { DynamicTable } from "./hpack-table.ts";
import { huffmanEncode, huffmanLength } from "./huffman.ts";

export interface HpackEncoderOptions {
  /** Upper limit of our table, whatever the peer allows. Default 4096 bytes. */
  readonly maxTableSize?: number;
}

/** Room for an integer and for two table size updates. */
const INTEGER_ROOM = 6;
/** A value longer than this would push too much else out of a table of 4 KiB. */
const MAX_INDEXED_VALUE = 1024;

/** Secrets: never in a table, here or at any later hop, so that nobody can guess them by size (RFC 7541 §7.1). */
const SENSITIVE = new Set(["authorization", "proxy-authorization", "cookie", "set-cookie"]);

/** Values that differ from message to message: they would only displace what repeats. */
const CHANGING = new Set([
  ":path",
  "age",
  "content-length",
  "content-range",
  "date",
  "etag",
  "forwarded",
  "if-modified-since",
  "if-none-match",
  "last-modified",
  "location",
  "traceparent",
  "x-forwarded-for",
  "x-request-id",
]);

/** What a field value may consist of (RFC 9110 §5.5); latin1 stands for octets. */
const WRITABLE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Encodes header blocks; they must be sent in the order in which they were encoded. */
export class HpackEncoder {
  readonly #maxTableSize: number;
  readonly #table: DynamicTable;
  /** Name → value → sequence number in the dynamic table. */
  readonly #known = new Map<string, Map<string, number>>();
  /** Smallest size since the last block, and whether the peer must be told (RFC 7541 §4.2). */
  #smallest = 0;
  #resized = false;

  constructor(options: HpackEncoderOptions = {}) {
    this.#maxTableSize = options.maxTableSize ?? DEFAULT_TABLE_SIZE;
    this.#table = new DynamicTable(Math.min(this.#maxTableSize, DEFAULT_TABLE_SIZE), (name, value, sequence) =>
      this.#forget(name, value, sequence),
    );
  }

  /** Bytes in the dynamic table now. */
  get tableSize(): number {
    return this.#table.size;
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. */
  setPeerTableSize(size: number): void {
    const wanted = Math.min(size, this.#maxTableSize);
    if (wanted === this.#table.maxSize) return;
    this.#smallest = this.#resized ? Math.min(this.#smallest, wanted) : wanted;
    this.#resized = true;
    this.#table.resize(wanted);
  }

  /** An upper bound of what `encode` writes. */
  static room(fields: readonly HeaderField[]): number {
    let room = 2 * INTEGER_ROOM;
    for (const [name, value] of fields) room += name.length + value.length + 3 * INTEGER_ROOM;
    return room;
  }

  /** Writes the block for `fields` to `target` from `offset` on and returns the offset behind it. Throws TypeError for a character that no header can hold. */
  encode(fields: readonly HeaderField[], target: Buffer, offset: number): number {
    for (const [name, value] of fields) {
      if (!WRITABLE.test(value) || !WRITABLE.test(name)) throw new TypeError(`header ${name} cannot be written`);
    }
    let at = offset;
    if (this.#resized) {
      if (this.#smallest < this.#table.maxSize) at = writeInteger(target, at, 0x20, 5, this.#smallest);
      at = writeInteger(target, at, 0x20, 5, this.#table.maxSize);
      this.#resized = false;
    }
    for (const field of fields) at = this.#field(field, target, at);
    return at;
  }

  #field(field: HeaderField, target: Buffer, offset: number): number {
    const [name, value] = field;
    const sensitive = field[2] === true || SENSITIVE.has(name);
    const fixed = STATIC_INDEX.get(name);
    const dynamic = this.#known.get(name);
    if (!sensitive) {
      const whole = fixed?.values.get(value);
      if (whole !== undefined) return writeInteger(target, offset, 0x80, 7, whole);
      const sequence = dynamic?.get(value);
      if (sequence !== undefined) return writeInteger(target, offset, 0x80, 7, this.#indexOf(sequence));
    }
    let nameIndex = fixed?.first ?? 0;
    if (nameIndex === 0 && dynamic !== undefined)
      for (const sequence of dynamic.values()) nameIndex = this.#indexOf(sequence);
    const indexed = !sensitive && value.length <= MAX_INDEXED_VALUE && !CHANGING.has(name) && this.#table.maxSize > 0;
    let at = indexed
      ? writeInteger(target, offset, 0x40, 6, nameIndex)
      : writeInteger(target, offset, sensitive ? 0x10 : 0, 4, nameIndex);
    if (nameIndex === 0) at = writeString(target, at, name);
    at = writeString(target, at, value);
    if (indexed) this.#remember(name, value);
    return at;
  }

  #indexOf(sequence: number): number {
    return STATIC_COUNT + this.#table.inserted - sequence;
  }

  #remember(name: string, value: string): void {
    const sequence = this.#table.inserted;
    this.#table.insert(name, value);
    if (this.#table.inserted === sequence) return;
    let values = this.#known.get(name);
    if (values === undefined) this.#known.set(name, (values = new Map<string, number>()));
    values.set(value, sequence);
  }

  #forget(name: string, value: string, sequence: number): void {
    const values = this.#known.get(name);
    if (values?.get(value) !== sequence) return;
    values.delete(value);
    if (values.size === 0) this.#known.delete(name);
  }
}

interface StaticName {
  readonly first: number;
  readonly values: ReadonlyMap<string, number>;
}

const STATIC_INDEX: ReadonlyMap<string, StaticName> = buildStaticIndex();

function buildStaticIndex(): Map<string, StaticName> {
  const index = new Map<string, { first: number; values: Map<string, number> }>();
  for (let i = 1; i <= STATIC_COUNT; i++) {
    const [name, value] = STATIC_TABLE[i]!;
    const entry = index.get(name) ?? { first: i, values: new Map<string, number>() };
    entry.values.set(value, i);
    index.set(name, entry);
  }
  return index;
}

function writeInteger(target: Buffer, offset: number, pattern: number, prefixBits: number, value: number): number {
  const mask = (1 << prefixBits) - 1;
  let at = offset;
  if (value < mask) {
    target[at++] = pattern | value;
    return at;
  }
  target[at++] = pattern | mask;
  let rest = value - mask;
  while (rest >= 0x80) {
    target[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  target[at++] = rest;
  return at;
}

function writeString(target: Buffer, offset: number, text: string): number {
  const coded = huffmanLength(text);
  if (coded < text.length) return huffmanEncode(text, target, writeInteger(target, offset, 0x80, 7, coded));
  const at = writeInteger(target, offset, 0, 7, text.length);
  return at + target.write(text, at, "latin1");
}
