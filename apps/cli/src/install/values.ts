import { CliError } from "../cli-error.ts";
import { didYouMean } from "../near-names.ts";
import { type Field, FIELDS, type InstallValues, type Tree, type TreeValue, VALUE_PATHS } from "./value-fields.ts";

/** From files and `--set` to values; every unknown path and every wrong value is an error that says which. */

/** What is laid over the defaults, in this order. */
export interface ValueSources {
  /** Parsed YAML of `-f`, with the name to call it by. */
  readonly files: readonly { readonly name: string; readonly content: unknown }[];
  /** `path=value` of `--set`. */
  readonly sets: readonly string[];
}

const OPERATOR_KIND = "IstioOperator";
/** What an IstioOperator may hold besides values that have no effect or are not possible yet. */
const OPERATOR_LATER = ["components", "revision", "namespace", "compatibilityVersion", "unvalidatedValues"];
/** Numbers that YAML and Kubernetes agree on. */
const INTEGER = /^-?\d{1,15}$/;

/** Throws CliError. */
export function readValues({ files, sets }: ValueSources): InstallValues {
  let overlay: Tree = {};
  for (const { name, content } of files) overlay = merge(overlay, treeOfFile(name, content));
  for (const text of sets) overlay = merge(overlay, treeOfSet(text));
  const given = new Map<string, TreeValue>();
  collect(overlay, "", given);
  const values: Record<string, unknown> = {};
  for (const path of VALUE_PATHS) {
    const field: Field = FIELDS[path];
    const value = given.get(path);
    values[path] = value === undefined || value === null ? field.fallback : checked(path, field, value);
  }
  return values as InstallValues;
}

/** `a.b\.c=value` as a tree. The value is a list when it is written {x,y}, JSON when it begins with [ . */
export function treeOfSet(text: string): Tree {
  const equals = text.indexOf("=");
  if (equals <= 0)
    throw new CliError(`--set ${text}: there is no "="`, "write --set path=value, as in --set tag=1.0.0");
  const keys = pathKeys(text.slice(0, equals));
  if (keys.some((key) => key === "")) {
    throw new CliError(`--set ${text}: the path has an empty part`, "write --set path=value, as in --set tag=1.0.0");
  }
  const value = scalarOrList(text.slice(equals + 1), text);
  return keys.reduceRight<TreeValue>((inner, key) => ({ [key]: inner }), value) as Tree;
}

function scalarOrList(text: string, whole: string): TreeValue {
  if (text.startsWith("{") && text.endsWith("}")) {
    const inside = text.slice(1, -1);
    return inside === "" ? [] : inside.split(",").map((item) => item.trim());
  }
  if (!text.startsWith("[")) return text;
  try {
    return JSON.parse(text) as TreeValue;
  } catch (cause) {
    throw new CliError(
      `--set ${whole}: the list is not JSON`,
      'write [{"key": "value"}], or {a,b} for plain texts',
      cause,
    );
  }
}

/** Parts of a dotted path; `\.` is a dot inside a part. */
function pathKeys(path: string): string[] {
  return path.split(/(?<!\\)\./).map((key) => key.replaceAll("\\.", "."));
}

function treeOfFile(name: string, content: unknown): Tree {
  if (content === null || content === undefined) return {};
  if (!isTree(content)) {
    throw new CliError(`${name}: a file of values must be a YAML mapping`, "see what can be set: tulle install --help");
  }
  if (content["kind"] !== OPERATOR_KIND) return content;
  const spec = content["spec"];
  if (spec === undefined || spec === null) return {};
  if (!isTree(spec)) throw new CliError(`${name}: spec must be a mapping`, `compare the file with an ${OPERATOR_KIND}`);
  const later = OPERATOR_LATER.find((key) => spec[key] !== undefined);
  if (later !== undefined) {
    throw new CliError(
      `${name}: spec.${later} is not supported`,
      later === "components"
        ? "take it out; resources, tolerations and the like are set under values.pilot, values.cni and values.ztunnel"
        : "take it out; the namespace is chosen by --istio-namespace",
    );
  }
  return spec;
}

/** Files the leaves of `tree` under their paths; `values.` may stand in front, as in an IstioOperator. */
function collect(tree: Tree, prefix: string, given: Map<string, TreeValue>): void {
  for (const [key, value] of Object.entries(tree)) {
    if (prefix === "" && key === "values" && isTree(value)) {
      collect(value, "", given);
      continue;
    }
    const path = prefix + key;
    const known: Readonly<Record<string, Field>> = FIELDS;
    if (Object.hasOwn(known, path)) {
      const before = given.get(path);
      given.set(path, isTree(before) && isTree(value) ? merge(before, value) : value);
    } else if (isTree(value) && VALUE_PATHS.some((candidate) => candidate.startsWith(`${path}.`))) {
      collect(value, `${path}.`, given);
    } else if (path === "global.hub" || path === "global.tag") {
      given.set(path.slice("global.".length), value);
    } else {
      throw unknownPath(isTree(value) ? deepest(path, value) : path);
    }
  }
}

/** The first whole path below: what the user wrote. */
function deepest(path: string, tree: Tree): string {
  const [first] = Object.entries(tree);
  if (first === undefined) return path;
  const [key, value] = first;
  return isTree(value) ? deepest(`${path}.${key}`, value) : `${path}.${key}`;
}

function unknownPath(path: string): CliError {
  return new CliError(
    `there is no value ${path}`,
    didYouMean(path, VALUE_PATHS) ?? "see what can be set: tulle install --help",
  );
}

function checked(path: string, field: Field, value: TreeValue): unknown {
  const wrong = (what: string): CliError =>
    new CliError(`${path} is ${shown(value)}, but must be ${what}`, "correct it and try again");
  switch (field.type) {
    case "text": {
      if (typeof value === "object") throw wrong("a text");
      const text = String(value);
      if (field.oneOf !== undefined && !field.oneOf.includes(text)) {
        throw wrong(field.oneOf.filter((choice) => choice !== "").join(" or "));
      }
      return text;
    }
    case "boolean":
      if (value === true || value === "true") return true;
      if (value === false || value === "false") return false;
      throw wrong("true or false");
    case "integer": {
      const text = typeof value === "object" ? "" : String(value);
      if (!INTEGER.test(text) || Number(text) < 0) throw wrong("a whole number from 0");
      return Number(text);
    }
    case "texts":
      if (!Array.isArray(value) || value.some((item) => typeof item === "object")) throw wrong("a list, as in {a,b}");
      return value.map(String);
    case "map":
      if (!isTree(value)) throw wrong("a mapping");
      return Object.fromEntries(
        Object.entries(value).map(([key, inner]) => {
          if (typeof inner === "object") throw wrong("a mapping of texts");
          return [key, String(inner)];
        }),
      );
    case "tree":
      if (!isTree(value)) throw wrong("a mapping");
      checkKeys(path, field, value);
      // Set values are texts; MeshConfig knows booleans and numbers.
      return merge(field.fallback as Tree, field.keys === undefined ? value : typed(value));
    case "trees":
      if (!Array.isArray(value) || !value.every(isTree))
        throw wrong('a list of mappings, as in [{"operator": "Exists"}]');
      return value;
    default:
      return field.type satisfies never;
  }
}

function checkKeys(path: string, field: Field, value: Tree): void {
  const unknown = Object.keys(value).find((key) => field.keys !== undefined && !field.keys.includes(key));
  if (unknown === undefined) return;
  throw new CliError(
    `there is no value ${path}.${unknown}`,
    didYouMean(unknown, field.keys ?? []) ?? `${path} has: ${(field.keys ?? []).join(", ")}`,
  );
}

/** Texts that spell a boolean become one. Numbers stay texts: durations, quantities and numbers all read them. */
function typed(value: Tree): Tree {
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      if (isTree(inner)) return [key, typed(inner)];
      return [key, inner === "true" ? true : inner === "false" ? false : inner];
    }),
  );
}

/** Mappings are merged, everything else is replaced; null takes away. */
export function merge(base: Tree, over: Tree): Tree {
  const merged: Record<string, TreeValue> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = merged[key];
    if (value === null) delete merged[key];
    else merged[key] = isTree(before) && isTree(value) ? merge(before, value) : value;
  }
  return merged;
}

export function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function shown(value: TreeValue): string {
  return typeof value === "string" ? `"${value}"` : JSON.stringify(value);
}
