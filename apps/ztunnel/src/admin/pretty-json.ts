/**
 * JSON with two spaces of indentation and sorted keys, as ztunnel prints its dumps, in pieces: the dump of a large mesh
 * is tens of megabytes, which neither should be one string nor hold up the process.
 */

const CHUNK_LENGTH = 32_768;

export function* prettyJson(value: unknown): Generator<string> {
  let text = "";
  for (const piece of pieces(value, "\n")) {
    text += piece;
    if (text.length < CHUNK_LENGTH) continue;
    yield text;
    text = "";
  }
  yield `${text}\n`;
}

/** `indent` begins with a line feed. */
function* pieces(value: unknown, indent: string): Generator<string> {
  const plain = hasToJson(value) ? value.toJSON() : value;
  if (Array.isArray(plain)) {
    yield* list(plain, indent, "[", "]", function* item(element, inner) {
      yield* pieces(element, inner);
    });
  } else if (typeof plain === "object" && plain !== null) {
    // Sorted as text: an object of JavaScript would list number-like keys first, by number.
    const entries = Object.entries(plain).filter(([, item]) => item !== undefined);
    entries.sort(([a], [b]) => (a < b ? -1 : 1));
    yield* list(entries, indent, "{", "}", function* entry([key, item], inner) {
      yield `${JSON.stringify(key)}: `;
      yield* pieces(item, inner);
    });
  } else {
    yield JSON.stringify(plain) ?? "null";
  }
}

function* list<T>(
  items: readonly T[],
  indent: string,
  open: string,
  close: string,
  write: (item: T, indent: string) => Generator<string>,
): Generator<string> {
  if (items.length === 0) {
    yield open + close;
    return;
  }
  const inner = `${indent}  `;
  let before = open + inner;
  for (const item of items) {
    yield before;
    yield* write(item, inner);
    before = `,${inner}`;
  }
  yield indent + close;
}

function hasToJson(value: unknown): value is { toJSON(): unknown } {
  return typeof value === "object" && value !== null && "toJSON" in value && typeof value.toJSON === "function";
}
