import { type Cidr, ipToBytes } from "@tulle/base";

/** One more than the longest prefix, so that v4 and v6 lengths never share a slot number. */
const V6_OFFSET = 33;

/**
 * Values under address ranges. Insertion, removal and lookup cost O(distinct prefix lengths), not O(ranges), so that
 * ten thousand ranges are as cheap as ten.
 */
export class PrefixTable<T> {
  /** Family and prefix length → masked address → values, in the order of insertion. */
  readonly #slots = new Map<number, Map<string, T[]>>();
  /** Keys of `#slots`, longest prefix first. */
  #lengths: readonly number[] = [];

  add(cidr: Cidr, value: T): void {
    const slot = slotOf(cidr.bytes, cidr.bits);
    let ranges = this.#slots.get(slot);
    if (ranges === undefined) {
      ranges = new Map();
      this.#slots.set(slot, ranges);
      this.#lengths = [...this.#slots.keys()].sort((a, b) => b - a);
    }
    const key = maskedKey(cidr.bytes, cidr.bits);
    const values = ranges.get(key);
    if (values === undefined) ranges.set(key, [value]);
    else values.push(value);
  }

  /** Removes one occurrence of `value`; no effect when it is not there. */
  remove(cidr: Cidr, value: T): void {
    const slot = slotOf(cidr.bytes, cidr.bits);
    const ranges = this.#slots.get(slot);
    const key = maskedKey(cidr.bytes, cidr.bits);
    const values = ranges?.get(key);
    const index = values?.indexOf(value) ?? -1;
    if (ranges === undefined || values === undefined || index < 0) return;
    values.splice(index, 1);
    if (values.length > 0) return;
    ranges.delete(key);
    if (ranges.size > 0) return;
    this.#slots.delete(slot);
    this.#lengths = this.#lengths.filter((length) => length !== slot);
  }

  /** Calls `visit` with the values of every range that holds `ip`, longest prefix first. */
  visit(ip: string, visit: (value: T, bits: number) => void): void {
    if (this.#lengths.length === 0) return;
    const bytes = ipToBytes(ip);
    if (bytes === undefined) return;
    const v6 = bytes.length === 16;
    for (const slot of this.#lengths) {
      if (slot >= V6_OFFSET !== v6) continue;
      const bits = v6 ? slot - V6_OFFSET : slot;
      const values = this.#slots.get(slot)?.get(maskedKey(bytes, bits));
      if (values !== undefined) for (const value of values) visit(value, bits);
    }
  }

  get empty(): boolean {
    return this.#slots.size === 0;
  }
}

function slotOf(bytes: Uint8Array, bits: number): number {
  return bytes.length === 16 ? V6_OFFSET + bits : bits;
}

function maskedKey(bytes: Uint8Array, bits: number): string {
  const whole = bits >> 3;
  let key = "";
  for (let i = 0; i < whole; i++) key += String.fromCharCode(bytes[i] ?? 0);
  const rest = bits & 7;
  if (rest > 0) key += String.fromCharCode((bytes[whole] ?? 0) & (0xff << (8 - rest)) & 0xff);
  return key;
}
