import { ENTRY_OVERHEAD } from "./hpack-static.ts";

/** Receives what falls out of the table, so that an encoder can forget where it was. */
export type OnEvict = (name: string, value: string, sequence: number) => void;

/**
 * The dynamic table of one direction (RFC 7541 §2.3.2): a queue bounded by bytes. Each entry keeps the sequence number of
 * its insertion; index 0 is the newest. Strings are latin1, so that their length is their size on the wire.
 */
export class DynamicTable {
  #names: (string | undefined)[] = [];
  #values: (string | undefined)[] = [];
  /** Where the oldest entry is in the ring. */
  #oldest = 0;
  #count = 0;
  #inserted = 0;
  #size = 0;
  #maxSize: number;
  readonly #onEvict: OnEvict | undefined;

  constructor(maxSize: number, onEvict?: OnEvict) {
    this.#maxSize = maxSize;
    this.#onEvict = onEvict;
  }

  get count(): number {
    return this.#count;
  }

  /** Octets and overhead of all entries. */
  get size(): number {
    return this.#size;
  }

  get maxSize(): number {
    return this.#maxSize;
  }

  /** How many entries were ever inserted: the sequence number of the next one. */
  get inserted(): number {
    return this.#inserted;
  }

  /** Undefined when there is no such entry. */
  name(index: number): string | undefined {
    return index >= 0 && index < this.#count ? this.#names[this.#slot(index)] : undefined;
  }

  value(index: number): string | undefined {
    return index >= 0 && index < this.#count ? this.#values[this.#slot(index)] : undefined;
  }

  /** Adds an entry in front; one that is larger than the whole table empties it and is not added (RFC 7541 §4.4). */
  insert(name: string, value: string): void {
    const size = name.length + value.length + ENTRY_OVERHEAD;
    this.#shrink(this.#maxSize - size);
    if (size > this.#maxSize) return;
    if (this.#count === this.#names.length) this.#grow();
    const slot = (this.#oldest + this.#count) % this.#names.length;
    this.#names[slot] = name;
    this.#values[slot] = value;
    this.#count++;
    this.#inserted++;
    this.#size += size;
  }

  resize(maxSize: number): void {
    this.#maxSize = maxSize;
    this.#shrink(maxSize);
  }

  #slot(index: number): number {
    return (this.#oldest + this.#count - 1 - index) % this.#names.length;
  }

  #shrink(limit: number): void {
    while (this.#count > 0 && this.#size > limit) {
      const slot = this.#oldest;
      const name = this.#names[slot]!;
      const value = this.#values[slot]!;
      this.#onEvict?.(name, value, this.#inserted - this.#count);
      this.#names[slot] = undefined;
      this.#values[slot] = undefined;
      this.#oldest = (slot + 1) % this.#names.length;
      this.#count--;
      this.#size -= name.length + value.length + ENTRY_OVERHEAD;
    }
  }

  #grow(): void {
    const slots = Math.max(8, this.#names.length * 2);
    const names: (string | undefined)[] = Array.from({ length: slots });
    const values: (string | undefined)[] = Array.from({ length: slots });
    for (let i = 0; i < this.#count; i++) {
      const slot = (this.#oldest + i) % this.#names.length;
      names[i] = this.#names[slot];
      values[i] = this.#values[slot];
    }
    this.#names = names;
    this.#values = values;
    this.#oldest = 0;
  }
}
