import { StoreError } from "../contract.ts";
import { isMap, type Json, type JsonMap, sameJson } from "./json-value.ts";

/**
 * Who wrote which field, as server-side apply keeps it: per writer a set of paths. A path is the JSON text of its steps:
 * keys of maps, and `=value` for the item of a keyed list.
 */
export type Ownership = Readonly<Record<string, readonly string[]>>;

/** Lists whose items merge by a key instead of replacing each other. */
const KEYED_LISTS: Readonly<Record<string, string>> = { conditions: "type", ownerReferences: "uid" };
/** What names an object is nobody's field. */
const NOT_OWNED = new Set(
  ["apiVersion", "kind"]
    .map((key) => [key])
    .concat(
      ["name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"].map((k) => ["metadata", k]),
    )
    .map((path) => JSON.stringify(path)),
);

export interface Applied {
  readonly object: JsonMap;
  readonly ownership: Ownership;
}

/**
 * What `live` becomes when `writer` applies `wanted`: its fields merge in; those that the same writer had applied before and
 * now omits go, unless another writer has them too. Throws StoreError CONFLICT when a field with another value belongs to
 * somebody else and `force` is false.
 */
export function applyFields(
  live: JsonMap,
  ownership: Ownership,
  wanted: JsonMap,
  writer: string,
  force: boolean,
): Applied {
  const liveFields = fieldsOf(live);
  const fields = fieldsOf(wanted);
  const others = Object.entries(ownership).filter(([name]) => name !== writer);
  const taken = new Set(
    [...fields].filter(([path, value]) => !sameJson(liveFields.get(path), value)).map(([path]) => path),
  );
  if (!force) {
    for (const [name, paths] of others) {
      const path = paths.find((one) => taken.has(one));
      if (path !== undefined)
        throw new StoreError("CONFLICT", `${readable(path)} is a field of ${readableWriter(name)}`);
    }
  }
  let object = mergeFields(live, wanted, "") as JsonMap;
  const elsewhere = new Set(others.flatMap(([, paths]) => paths));
  for (const path of ownership[writer] ?? []) {
    const still = fields.has(path) || elsewhere.has(path) || [...fields.keys()].some((one) => isBelow(one, path));
    if (!still) object = (without(object, JSON.parse(path) as string[], "") ?? {}) as JsonMap;
  }
  const next: Record<string, readonly string[]> = { [writer]: [...fields.keys()] };
  for (const [name, paths] of others) next[name] = paths.filter((path) => !taken.has(path));
  return { object, ownership: dropEmpty(next) };
}

/**
 * Who owns what after `writer` has changed `live` to `next` by a patch: it takes over the fields whose values it changed.
 * `keeper` keeps its fields, alone, whoever else writes them: what a person wrote in a file stays that person's to remove.
 */
export function ownershipAfterPatch(
  live: JsonMap,
  next: JsonMap,
  ownership: Ownership,
  writer: string,
  keeper: string,
): Ownership {
  const before = fieldsOf(live);
  const after = fieldsOf(next);
  const changed = new Set(
    [...after].filter(([path, value]) => !sameJson(before.get(path), value)).map(([path]) => path),
  );
  const result: Record<string, readonly string[]> = {};
  for (const [name, paths] of Object.entries(ownership)) {
    result[name] = paths.filter((path) => (name === keeper || !changed.has(path)) && after.has(path));
  }
  const kept = new Set(result[keeper]);
  const gained = [...changed].filter((path) => !kept.has(path));
  result[writer] = [...new Set([...(result[writer] ?? []), ...gained])];
  return dropEmpty(result);
}

/** Every field that holds a value: below maps and keyed lists; other lists and empty maps are values. */
function fieldsOf(object: JsonMap): Map<string, Json> {
  const found = new Map<string, Json>();
  const visit = (value: Json, path: readonly string[]) => {
    const items = keyedItems(value, path.at(-1) ?? "");
    if (items !== undefined) for (const [key, item] of items) visit(item, [...path, `=${key}`]);
    else if (isMap(value) && (path.length === 0 || Object.keys(value).length > 0)) {
      for (const [key, item] of Object.entries(value)) visit(item, [...path, key]);
    } else {
      const text = JSON.stringify(path);
      if (!NOT_OWNED.has(text)) found.set(text, value);
    }
  };
  visit(object, []);
  return found;
}

function mergeFields(live: Json | undefined, wanted: Json, name: string): Json {
  if (isMap(wanted)) {
    if (!isMap(live)) return wanted;
    const result: Record<string, Json> = { ...live };
    for (const [key, value] of Object.entries(wanted)) result[key] = mergeFields(live[key], value, key);
    return result;
  }
  const [items, before] = [keyedItems(wanted, name), keyedItems(live ?? null, name)];
  if (items === undefined || before === undefined) return wanted;
  const result = new Map(before);
  for (const [key, item] of items) result.set(key, mergeFields(before.get(key), item, ""));
  return [...result.values()];
}

/** `value` without the field at `path`; undefined when nothing is left. An item of a keyed list goes with its key. */
function without(value: Json, path: readonly string[], name: string): Json | undefined {
  const [step, ...rest] = path;
  if (step === undefined) return undefined;
  const items = keyedItems(value, name);
  if (items !== undefined) {
    const key = step.slice(1);
    const item = items.get(key);
    if (item === undefined) return value;
    const left = rest[0] === KEYED_LISTS[name] ? undefined : without(item, rest, "");
    if (left === undefined) items.delete(key);
    else items.set(key, left);
    return items.size === 0 ? undefined : [...items.values()];
  }
  if (!isMap(value) || value[step] === undefined) return value;
  const result: Record<string, Json> = { ...value };
  const left = without(value[step], rest, step);
  if (left === undefined) delete result[step];
  else result[step] = left;
  return Object.keys(result).length === 0 ? undefined : result;
}

/** The items of a keyed list by their keys; undefined when `value` is no such list. */
function keyedItems(value: Json, name: string): Map<string, Json> | undefined {
  const key = Object.hasOwn(KEYED_LISTS, name) ? KEYED_LISTS[name] : undefined;
  if (key === undefined || !Array.isArray(value) || value.length === 0) return undefined;
  const items = new Map<string, Json>();
  for (const item of value as Json[]) {
    const id = isMap(item) ? item[key] : undefined;
    if (typeof id !== "string" || items.has(id)) return undefined;
    items.set(id, item);
  }
  return items;
}

function isBelow(path: string, parent: string): boolean {
  return path.length > parent.length && path.startsWith(`${parent.slice(0, -1)},`);
}

function readable(path: string): string {
  return (JSON.parse(path) as string[])
    .map((step) => (step.startsWith("=") ? `[${step.slice(1)}]` : `.${step}`))
    .join("");
}

function readableWriter(name: string): string {
  return `"${name.replace(/^[a-z]+:/, "")}"`;
}

function dropEmpty(ownership: Readonly<Record<string, readonly string[]>>): Ownership {
  return Object.fromEntries(Object.entries(ownership).filter(([, paths]) => paths.length > 0));
}
