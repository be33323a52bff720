import { isDeepStrictEqual } from "node:util";
import type { JsonPatchOperation } from "../contract.ts";
import { StoreError } from "../contract.ts";

/** JSON as plain values, and the two patches of it. Nothing here changes its arguments. */
export type Json = null | boolean | number | string | readonly Json[] | JsonMap;
export interface JsonMap {
  readonly [key: string]: Json;
}

export function isMap(value: unknown): value is JsonMap {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export const sameJson = isDeepStrictEqual;

/** JSON merge patch, RFC 7386: null removes, maps merge, everything else replaces. */
export function mergePatch(target: Json | undefined, patch: Json): Json {
  if (!isMap(patch)) return patch;
  const result: Record<string, Json> = isMap(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

/** JSON patch, RFC 6902. Throws StoreError: CONFLICT when a `test` fails, INVALID when a path does not exist. */
export function jsonPatch(target: Json, operations: readonly JsonPatchOperation[]): Json {
  let result = target;
  for (const operation of operations) {
    if (operation.path !== "" && !operation.path.startsWith("/")) {
      throw new StoreError("INVALID", `JSON patch: the path ${operation.path} must begin with /`);
    }
    const path = operation.path
      .split("/")
      .slice(1)
      .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
    result = applyOperation(result, operation, path);
  }
  return result;
}

function applyOperation(target: Json, operation: JsonPatchOperation, path: readonly string[]): Json {
  const [key, ...rest] = path;
  if (key === undefined) {
    if (operation.op === "remove") throw new StoreError("INVALID", "JSON patch: the whole object cannot be removed");
    if (operation.op !== "test") return operation.value as Json;
    if (sameJson(target, operation.value)) return target;
    throw testFailed(operation);
  }
  const last = rest.length === 0;
  if (Array.isArray(target)) {
    const list: Json[] = [...(target as Json[])];
    const index = key === "-" && last && operation.op === "add" ? list.length : indexOf(key, operation);
    if (last && operation.op === "add") {
      if (index > list.length) throw missing(operation);
      list.splice(index, 0, operation.value as Json);
      return list;
    }
    const found = list[index];
    if (found === undefined) throw missing(operation);
    if (last && operation.op === "remove") list.splice(index, 1);
    else list[index] = applyOperation(found, operation, rest);
    return list;
  }
  if (!isMap(target)) throw missing(operation);
  const found = Object.hasOwn(target, key) ? target[key] : undefined;
  const result: Record<string, Json> = { ...target };
  if (last && operation.op === "add") result[key] = operation.value as Json;
  else if (found === undefined) throw missing(operation);
  else if (last && operation.op === "remove") delete result[key];
  else result[key] = applyOperation(found, operation, rest);
  return result;
}

function indexOf(key: string, operation: JsonPatchOperation): number {
  if (!/^(0|[1-9]\d{0,8})$/.test(key)) throw missing(operation);
  return Number(key);
}

function missing(operation: JsonPatchOperation): StoreError {
  if (operation.op === "test") return testFailed(operation);
  return new StoreError("INVALID", `JSON patch: ${operation.op} ${operation.path}: there is no such path`);
}

function testFailed(operation: JsonPatchOperation): StoreError {
  return new StoreError("CONFLICT", `JSON patch: the test of ${operation.path} failed`);
}
