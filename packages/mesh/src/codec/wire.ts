import { Buffer, isUtf8 } from "node:buffer";
import { ipFromBytes, ipToBytes, MeshError } from "@tulle/base";

/** One change in its encoded form; beyond it encoding and decoding fail. A policy of 10,000 rules takes about 1 MiB. */
export const MAX_CHANGE_BYTES = 8 * 1024 * 1024;

/** Distinct strings kept to be shared; when full, sharing starts anew. About 6 MiB. */
export const MAX_SHARED_STRINGS = 65_536;

const FIRST_CAPACITY = 512;
const MAX_U32 = 0xffff_ffff;

/** Bytes that are not a change, or a change that cannot be written (code MALFORMED_CHANGE or CHANGE_TOO_LARGE). */
export function malformed(what: string): MeshError {
  return new MeshError(`malformed mesh change: ${what}`, { code: "MALFORMED_CHANGE", side: "internal" });
}

/** Appends numbers, strings and addresses; reusable after `take`. */
export class WireWriter {
  #buffer = Buffer.alloc(FIRST_CAPACITY);
  #length = 0;

  byte(value: number): void {
    this.#reserve(1);
    this.#buffer[this.#length++] = value;
  }

  flag(value: boolean): void {
    this.byte(value ? 1 : 0);
  }

  /** Unsigned, at most 32 bits, seven bits a byte, the lowest first. */
  number(value: number): void {
    if (!Number.isInteger(value) || value < 0 || value > MAX_U32) throw malformed(`${value} is no 32-bit number`);
    this.#reserve(5);
    let rest = value;
    while (rest > 0x7f) {
      this.#buffer[this.#length++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#buffer[this.#length++] = rest;
  }

  /** Length in bytes, then UTF-8. */
  text(value: string): void {
    if (!value.isWellFormed()) throw malformed("text with half a surrogate pair");
    const length = Buffer.byteLength(value);
    this.number(length);
    this.#reserve(length);
    this.#length += this.#buffer.write(value, this.#length);
  }

  /** 4 or 16 bytes, after their count. */
  ip(value: string): void {
    const bytes = ipToBytes(value);
    if (bytes === undefined) throw malformed(`"${value}" is no address`);
    this.ipBytes(bytes);
  }

  ipBytes(bytes: Uint8Array): void {
    this.byte(bytes.length);
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  list<T>(values: { readonly length: number } & Iterable<T>, write: (value: T) => void): void {
    this.number(values.length);
    for (const value of values) write(value);
  }

  optional<T>(value: T | undefined, write: (value: T) => void): void {
    this.flag(value !== undefined);
    if (value !== undefined) write(value);
  }

  /** A copy of what was written; the writer starts anew. Its memory is not shared with anything. */
  take(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#length);
    bytes.set(this.#buffer.subarray(0, this.#length));
    this.#length = 0;
    return bytes;
  }

  /** Forgets what was written. */
  reset(): void {
    this.#length = 0;
  }

  #reserve(count: number): void {
    const needed = this.#length + count;
    if (needed <= this.#buffer.length) return;
    if (needed > MAX_CHANGE_BYTES) {
      throw new MeshError(`mesh change of more than ${MAX_CHANGE_BYTES} bytes`, {
        code: "CHANGE_TOO_LARGE",
        side: "internal",
      });
    }
    const grown = Buffer.alloc(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(grown, 0, 0, this.#length);
    this.#buffer = grown;
  }
}

/** Reads what WireWriter wrote. Every method throws MALFORMED_CHANGE rather than read past the end or guess. */
export class WireReader {
  readonly #buffer: Buffer;
  readonly #shared: SharedStrings;
  #offset = 0;

  constructor(bytes: Uint8Array, shared: SharedStrings) {
    if (bytes.length > MAX_CHANGE_BYTES) throw malformed("too long");
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#shared = shared;
  }

  byte(): number {
    const value = this.#buffer[this.#offset];
    if (value === undefined) throw malformed("ends early");
    this.#offset++;
    return value;
  }

  flag(): boolean {
    const value = this.byte();
    if (value > 1) throw malformed(`${value} is no flag`);
    return value === 1;
  }

  number(): number {
    let value = 0;
    let unit = 1;
    for (let i = 0; i < 5; i++) {
      const byte = this.byte();
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) {
        if (value > MAX_U32 || (byte === 0 && i > 0)) break;
        return value;
      }
      unit *= 128;
    }
    throw malformed("bad number");
  }

  text(): string {
    const length = this.number();
    const start = this.#offset;
    const end = start + length;
    if (end > this.#buffer.length) throw malformed("text ends early");
    this.#offset = end;
    const text = this.#buffer.toString("utf8", start, end);
    if (text.includes("\ufffd") && !isUtf8(this.#buffer.subarray(start, end))) throw malformed("text is not UTF-8");
    return text;
  }

  /** A text that many resources have in common; equal ones are one object. */
  sharedText(): string {
    return this.#shared.get(this.text());
  }

  ip(): string {
    const ip = ipFromBytes(this.ipBytes());
    if (ip === undefined) throw malformed("no address");
    return ip;
  }

  /** A copy. */
  ipBytes(): Uint8Array {
    const length = this.byte();
    if (length !== 4 && length !== 16) throw malformed(`address of ${length} bytes`);
    const end = this.#offset + length;
    if (end > this.#buffer.length) throw malformed("address ends early");
    const bytes = Uint8Array.from(this.#buffer.subarray(this.#offset, end));
    this.#offset = end;
    return bytes;
  }

  list<T>(read: () => T): readonly T[] {
    const count = this.#count();
    if (count === 0) return EMPTY as readonly T[];
    const values: T[] = [];
    for (let i = 0; i < count; i++) values.push(read());
    return values;
  }

  map<K, V>(readKey: () => K, read: () => V): ReadonlyMap<K, V> {
    const count = this.#count();
    const values = new Map<K, V>();
    for (let i = 0; i < count; i++) {
      const key = readKey();
      values.set(key, read());
    }
    if (values.size !== count) throw malformed("a key twice");
    return values;
  }

  optional<T>(read: () => T): T | undefined {
    return this.flag() ? read() : undefined;
  }

  /** One of a fixed list, by its place in it. */
  choice<T>(values: readonly T[]): T {
    const index = this.byte();
    const value = values[index];
    if (value === undefined) throw malformed(`${index} is none of ${values.join(", ")}`);
    return value;
  }

  end(): void {
    if (this.#offset !== this.#buffer.length) throw malformed("goes on after its end");
  }

  /** Every item takes a byte at least, so a count can be checked before anything is made of it. */
  #count(): number {
    const count = this.number();
    if (count > this.#buffer.length - this.#offset) throw malformed("more items than bytes");
    return count;
  }
}

/** Keeps one copy of strings that return with every resource: namespaces, nodes, accounts, service keys. */
export class SharedStrings {
  readonly #strings = new Map<string, string>();

  get(text: string): string {
    const known = this.#strings.get(text);
    if (known !== undefined) return known;
    if (this.#strings.size >= MAX_SHARED_STRINGS) this.#strings.clear();
    this.#strings.set(text, text);
    return text;
  }
}

const EMPTY: readonly unknown[] = [];
