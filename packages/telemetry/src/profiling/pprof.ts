/**
 * V8's profiles as pprof reads them: a gzipped protobuf. Field numbers are those of profile.proto,
 * https://github.com/google/pprof/blob/main/proto/profile.proto
 */

/** A node of V8's tree, of a CPU or a heap profile. */
export interface ProfileFrame {
  readonly functionName: string;
  readonly url: string;
  /** From 0; -1 without a source. */
  readonly lineNumber: number;
}

/** One stack, root first, and what was measured there. */
export interface ProfileSample {
  readonly stack: readonly ProfileFrame[];
  readonly values: readonly number[];
}

export interface ProfileValue {
  readonly type: string;
  readonly unit: string;
}

export interface Profile {
  readonly values: readonly ProfileValue[];
  /** What the time or memory between two samples is measured in. */
  readonly period: ProfileValue & { readonly amount: number };
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly durationMs: number;
  /** Name of a thread → its samples; the name becomes the root of each stack and a label. */
  readonly threads: ReadonlyMap<string, readonly ProfileSample[]>;
}

export function encodeProfile(profile: Profile): Uint8Array {
  const strings = new Table<string>((text) => text);
  strings.id("");
  const functions = new Table<ProfileFrame>((frame) => `${frame.functionName}\n${frame.url}`);
  const locations = new Table<ProfileFrame>((frame) => `${frame.functionName}\n${frame.url}\n${frame.lineNumber}`);
  const out = new Message();
  const valueType = ({ type, unit }: ProfileValue) => new Message().int(1, strings.id(type)).int(2, strings.id(unit));

  for (const value of profile.values) out.message(1, valueType(value));
  for (const [thread, samples] of profile.threads) {
    const root = { functionName: thread, url: "", lineNumber: -1 };
    const label = new Message().int(1, strings.id("thread")).int(2, strings.id(thread));
    for (const { stack, values } of samples) {
      // The leaf comes first; ids count from 1.
      const ids = [root, ...stack].map((frame) => locations.id(frame) + 1).toReversed();
      out.message(2, new Message().packed(1, ids).packed(2, values).message(3, label));
    }
  }
  out.message(3, new Message().int(1, 1).int(5, strings.id("tulle")).int(7, 1).int(8, 1).int(9, 1));
  for (const [id, frame] of locations.entries()) {
    const line = new Message().int(1, functions.id(frame) + 1).int(2, Math.max(0, frame.lineNumber + 1));
    out.message(
      4,
      new Message()
        .int(1, id + 1)
        .int(2, 1)
        .message(4, line),
    );
  }
  for (const [id, { functionName, url }] of functions.entries()) {
    const name = strings.id(functionName === "" ? "(anonymous)" : functionName);
    out.message(
      5,
      new Message()
        .int(1, id + 1)
        .int(2, name)
        .int(3, name)
        .int(4, strings.id(url)),
    );
  }
  const period = valueType(profile.period);
  for (const [, text] of strings.entries()) out.text(6, text);
  out.int(9, Math.round(profile.startedAt * 1e6)).int(10, Math.round(profile.durationMs * 1e6));
  out.message(11, period).int(12, profile.period.amount);
  return out.bytes();
}

/** Numbers things from 0, equal ones alike. */
class Table<T> {
  readonly #keyOf: (item: T) => string;
  readonly #ids = new Map<string, number>();
  readonly #items: T[] = [];

  constructor(keyOf: (item: T) => string) {
    this.#keyOf = keyOf;
  }

  id(item: T): number {
    const key = this.#keyOf(item);
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.#items.length;
      this.#ids.set(key, id);
      this.#items.push(item);
    }
    return id;
  }

  entries(): IterableIterator<[number, T]> {
    return this.#items.entries();
  }
}

const VARINT = 0;
const BYTES = 2;

/** A protobuf message under construction. https://protobuf.dev/programming-guides/encoding */
class Message {
  readonly #bytes: number[] = [];

  /** A field with the default value is left out. */
  int(field: number, value: number): this {
    if (value === 0) return this;
    this.#varint((field << 3) | VARINT);
    this.#varint(value);
    return this;
  }

  packed(field: number, values: readonly number[]): this {
    const inner = new Message();
    for (const value of values) inner.#varint(value);
    return this.#delimited(field, inner.#bytes);
  }

  /** Written even when empty: the first string of a profile is. */
  text(field: number, text: string): this {
    return this.#delimited(field, Buffer.from(text));
  }

  message(field: number, message: Message): this {
    return this.#delimited(field, message.#bytes);
  }

  bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  #delimited(field: number, bytes: ArrayLike<number>): this {
    this.#varint((field << 3) | BYTES);
    this.#varint(bytes.length);
    for (let i = 0; i < bytes.length; i++) this.#bytes.push(bytes[i] ?? 0);
    return this;
  }

  /** `value` is a non-negative integer; above 2^53 it is not exact. */
  #varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes.push((rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.#bytes.push(rest);
  }
}
