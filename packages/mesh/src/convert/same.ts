/** Whether two plain values (objects, arrays, maps, bytes, texts, numbers) are equal. Fields that are undefined do not count. */
export function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((item, i) => same(item, b[i]));
  if (a instanceof Uint8Array) {
    return b instanceof Uint8Array && a.length === b.length && a.every((byte, i) => byte === b[i]);
  }
  if (a instanceof Map) return b instanceof Map && sameMap(a, b);
  if (a instanceof Date) return b instanceof Date && a.getTime() === b.getTime();
  if (Array.isArray(b) || b instanceof Map || b instanceof Uint8Array) return false;
  const [left, right] = [a as Readonly<Record<string, unknown>>, b as Readonly<Record<string, unknown>>];
  for (const key in left) if (!same(left[key], right[key])) return false;
  for (const key in right) if (left[key] === undefined && right[key] !== undefined) return false;
  return true;
}

/** Equal entries in equal order: the order of ports and services is part of the bytes. */
function sameMap(a: ReadonlyMap<unknown, unknown>, b: ReadonlyMap<unknown, unknown>): boolean {
  if (a.size !== b.size) return false;
  const others = b.entries();
  for (const [key, value] of a) {
    const { value: other } = others.next();
    if (other === undefined || !same(key, other[0]) || !same(value, other[1])) return false;
  }
  return true;
}

/** The value without fields that are null, at any depth; the value itself if there are none. */
export function withoutNulls<T>(value: T): T {
  return strip(value) as T;
}

function strip(value: unknown): unknown {
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  if (Array.isArray(value)) {
    const items = value.map(strip);
    return items.every((item, i) => item === value[i]) ? value : items;
  }
  const entries = Object.entries(value);
  const kept = entries.filter(([, field]) => field !== null).map(([key, field]) => [key, strip(field)] as const);
  const unchanged =
    kept.length === entries.length &&
    kept.every(([key, field], i) => key === entries[i]?.[0] && field === entries[i][1]);
  return unchanged ? value : Object.fromEntries(kept);
}
