import { ErrorCode, Http2Error } from "./error.ts";
import { ENTRY_OVERHEAD, STATIC_COUNT, STATIC_TABLE } from "./hpack-static.ts";
import { DynamicTable } from "./hpack-table.ts";
import { huffmanDecode } from "./huffman.ts";

/**
 * A field of a header section: lower-case name, value; octets as latin1. `sensitive` stands for the never-indexed form
 * (RFC 7541 §6.2.3): whoever forwards the field must keep it.
 */
export type HeaderField = readonly [name: string, value: string, sensitive?: boolean];

export interface DecodedHeaders {
  readonly fields: readonly HeaderField[];
  /** The section was larger than the limit: the table is right, but fields are missing. */
  readonly tooLarge: boolean;
}

export interface HpackDecoderOptions {
  /** What we have announced as SETTINGS_HEADER_TABLE_SIZE. Default 4096 bytes. */
  readonly maxTableSize?: number;
  /** Limit of a decoded section, counted as in RFC 9113 §6.5.2. Default 64 KiB. */
  readonly maxListSize?: number;
}

export const DEFAULT_TABLE_SIZE = 4096;
const DEFAULT_MAX_LIST_SIZE = 65_536;
/** More octets than this behind an integer's prefix (2^28 and above) are of no use in HPACK. */
const MAX_INTEGER_OCTETS = 4;

/** Decodes header blocks in the order in which they were received. Throws only Http2Error COMPRESSION_ERROR. */
export class HpackDecoder {
  readonly #table: DynamicTable;
  readonly #maxTableSize: number;
  readonly #maxListSize: number;
  /** Huffman output; grows to the largest string seen, which the caller's limit on blocks bounds. */
  #scratch: Buffer = Buffer.alloc(0);
  #source: Buffer = this.#scratch;
  #at = 0;
  #end = 0;

  constructor(options: HpackDecoderOptions = {}) {
    this.#maxTableSize = options.maxTableSize ?? DEFAULT_TABLE_SIZE;
    this.#maxListSize = options.maxListSize ?? DEFAULT_MAX_LIST_SIZE;
    this.#table = new DynamicTable(this.#maxTableSize);
  }

  /** Bytes in the dynamic table now (for tests and for memory figures). */
  get tableSize(): number {
    return this.#table.size;
  }

  /** Decodes the complete header block `source[start, end)`. After an error the connection is of no more use. */
  decode(source: Buffer, start: number, end: number): DecodedHeaders {
    this.#source = source;
    this.#at = start;
    this.#end = end;
    const fields: HeaderField[] = [];
    let size = 0;
    let mayResize = true;
    while (this.#at < this.#end) {
      const first = source[this.#at]!;
      if ((first & 0xe0) === 0x20) {
        if (!mayResize) throw malformed("a table size update stands behind a field");
        this.#resize();
        continue;
      }
      mayResize = false;
      const field = first & 0x80 ? this.#indexed() : this.#literal(first);
      size += field[0].length + field[1].length + ENTRY_OVERHEAD;
      if (size <= this.#maxListSize) fields.push(field);
    }
    this.#source = this.#scratch;
    return { fields, tooLarge: size > this.#maxListSize };
  }

  #resize(): void {
    const size = this.#integer(5);
    if (size > this.#maxTableSize) throw malformed(`table size ${size} is above ${this.#maxTableSize}`);
    this.#table.resize(size);
  }

  #indexed(): HeaderField {
    const index = this.#integer(7);
    if (index > 0 && index <= STATIC_COUNT) return STATIC_TABLE[index]!;
    const name = this.#table.name(index - STATIC_COUNT - 1);
    if (index === 0 || name === undefined) throw malformed(`index ${index} is not in the table`);
    return [name, this.#table.value(index - STATIC_COUNT - 1)!];
  }

  #literal(first: number): HeaderField {
    const indexing = (first & 0x40) !== 0;
    const index = this.#integer(indexing ? 6 : 4);
    const name = index === 0 ? this.#string() : this.#nameAt(index);
    const value = this.#string();
    if (indexing) {
      this.#table.insert(name, value);
      return [name, value];
    }
    return first & 0x10 ? [name, value, true] : [name, value];
  }

  #nameAt(index: number): string {
    const name = index <= STATIC_COUNT ? STATIC_TABLE[index]![0] : this.#table.name(index - STATIC_COUNT - 1);
    if (name === undefined) throw malformed(`index ${index} is not in the table`);
    return name;
  }

  /** RFC 7541 §5.1. */
  #integer(prefixBits: number): number {
    const mask = (1 << prefixBits) - 1;
    let value = this.#octet() & mask;
    if (value < mask) return value;
    for (let i = 0; i < MAX_INTEGER_OCTETS; i++) {
      const octet = this.#octet();
      value += (octet & 0x7f) << (7 * i);
      if (octet < 0x80) return value;
    }
    throw malformed("an integer is too long");
  }

  /** RFC 7541 §5.2. */
  #string(): string {
    const huffman = this.#at < this.#end && this.#source[this.#at]! >= 0x80;
    const length = this.#integer(7);
    const start = this.#at;
    if (length > this.#end - start) throw malformed("a string is longer than its block");
    this.#at = start + length;
    if (!huffman) return this.#source.toString("latin1", start, start + length);
    const room = Math.ceil((length * 8) / 5);
    if (this.#scratch.length < room) this.#scratch = Buffer.allocUnsafeSlow(Math.max(room, 256));
    return this.#scratch.toString("latin1", 0, huffmanDecode(this.#source, start, start + length, this.#scratch));
  }

  #octet(): number {
    if (this.#at >= this.#end) throw malformed("a header block ends early");
    return this.#source[this.#at++]!;
  }
}

function malformed(what: string): Http2Error {
  return new Http2Error(ErrorCode.COMPRESSION_ERROR, `hpack: ${what}`);
}
