/** Reads what `encodeProfile` writes, by the field numbers of profile.proto: for tests. */

export interface ReadProfile {
  readonly sampleTypes: readonly string[];
  readonly periodType: string;
  readonly period: number;
  readonly durationNanos: number;
  readonly samples: readonly {
    /** Function names, root first. */
    readonly stack: readonly string[];
    readonly values: readonly number[];
    readonly labels: Readonly<Record<string, string>>;
  }[];
}

type Fields = ReadonlyMap<number, readonly (number | Buffer)[]>;

/** Throws when an id or a string index points nowhere. */
export function readProfile(bytes: Uint8Array): ReadProfile {
  const top = fields(Buffer.from(bytes));
  const strings = messages(top, 6).map((text) => text.toString("utf8"));
  const text = (index: number) => must(strings[index], `string ${index}`);
  const type = (message: Fields) => `${text(int(message, 1))}/${text(int(message, 2))}`;
  const functions = new Map(
    messages(top, 5)
      .map(fields)
      .map((one) => [int(one, 1), text(int(one, 2))]),
  );
  const mappings = new Set(messages(top, 3).map((one) => int(fields(one), 1)));
  const locations = new Map(
    messages(top, 4).map((bytes) => {
      const one = fields(bytes);
      must(mappings.has(int(one, 2)) || undefined, "mapping");
      const [line = Buffer.alloc(0)] = messages(one, 4);
      return [int(one, 1), must(functions.get(int(fields(line), 1)), "function")];
    }),
  );
  return {
    sampleTypes: messages(top, 1).map((one) => type(fields(one))),
    periodType: type(fields(messages(top, 11)[0] ?? Buffer.alloc(0))),
    period: int(top, 12),
    durationNanos: int(top, 10),
    samples: messages(top, 2).map((bytes) => {
      const one = fields(bytes);
      const labels = messages(one, 3).map((label) => {
        const inner = fields(label);
        return [text(int(inner, 1)), text(int(inner, 2))] as const;
      });
      return {
        stack: packed(one, 1)
          .map((id) => must(locations.get(id), `location ${id}`))
          .toReversed(),
        values: packed(one, 2),
        labels: Object.fromEntries(labels),
      };
    }),
  };
}

function fields(bytes: Buffer): Fields {
  const found = new Map<number, (number | Buffer)[]>();
  for (let at = 0; at < bytes.length; ) {
    const [tag, afterTag] = varint(bytes, at);
    const [value, afterValue] = varint(bytes, afterTag);
    const delimited = (tag & 7) === 2;
    at = delimited ? afterValue + value : afterValue;
    if (at > bytes.length) throw new Error("a field ends outside of its message");
    const list = found.get(tag >> 3) ?? [];
    list.push(delimited ? bytes.subarray(afterValue, at) : value);
    found.set(tag >> 3, list);
  }
  return found;
}

function varint(bytes: Buffer, start: number): readonly [value: number, after: number] {
  let value = 0;
  for (let at = start, scale = 1; ; at++, scale *= 128) {
    const byte = must(bytes[at], "byte");
    value += (byte & 127) * scale;
    if (byte < 128) return [value, at + 1];
  }
}

function int(message: Fields, field: number): number {
  const [value = 0] = message.get(field) ?? [];
  return typeof value === "number" ? value : 0;
}

function messages(message: Fields, field: number): Buffer[] {
  return (message.get(field) ?? []).filter((value) => typeof value !== "number");
}

function packed(message: Fields, field: number): number[] {
  const values: number[] = [];
  for (const bytes of messages(message, field)) {
    for (let at = 0; at < bytes.length; ) {
      const [value, after] = varint(bytes, at);
      values.push(value);
      at = after;
    }
  }
  return values;
}

function must<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`no such ${what}`);
  return value;
}
