import { createHash } from "node:crypto";
import { type KubeObject, type Patch, StoreError } from "../contract.ts";
import { NAMESPACE, splitApiVersion } from "../kinds.ts";
import { applyFields, ownershipAfterPatch } from "./field-ownership.ts";
import { isMap, type Json, type JsonMap, jsonPatch, mergePatch, sameJson } from "./json-value.ts";
import type { StateRecord } from "./state-folder.ts";

/** When a change happens. */
export interface Moment {
  /** Unix milliseconds. */
  readonly wall: number;
  /** Unix microseconds, about; greater with each moment of a process, so that no two changes look alike. */
  readonly version: number;
}

export interface ChangeOptions {
  readonly writer: string;
  readonly subresource?: "status" | undefined;
  readonly now: Moment;
}

/** Writer of the fields that the user's files declare. */
export const USER_WRITER = "files:user";
/** Groups whose objects Kubernetes itself knows: their `status` sub-resource takes labels and annotations too. */
const BUILT_IN_GROUP = /^$|^(apps|batch|policy|autoscaling)$|\.k8s\.io$/;
const CUSTOM_GROUPS = new Set(["gateway.networking.k8s.io"]);

/** The record after an object was created. Status is not taken: it has its own sub-resource, as with the API server. */
export function createdRecord(object: KubeObject, options: ChangeOptions): StateRecord {
  const { status: _status, ...fields } = object;
  const fresh = { ...fields, metadata: { ...object.metadata } } as KubeObject;
  const made = stamp(undefined, fresh, options.now);
  return { format: 1, object: made, ownership: ownershipAfterPatch({}, json(made), {}, options.writer, USER_WRITER) };
}

/** The record after a server-side apply; the same one when nothing changed. Throws StoreError CONFLICT or INVALID. */
export function applyObject(
  record: StateRecord | undefined,
  object: KubeObject,
  options: ChangeOptions & { readonly force: boolean },
): StateRecord {
  const { resourceVersion, uid } = object.metadata;
  if (record !== undefined) checkPrecondition(record.object, { resourceVersion, uid });
  const wanted = restrict(undefined, json(object), object, options.subresource);
  const live = record?.object ?? { apiVersion: object.apiVersion, kind: object.kind, metadata: object.metadata };
  // Each sub-resource has its own fields per writer: omitting status in one apply does not take it away.
  const writer = options.subresource === undefined ? options.writer : `${options.writer}/${options.subresource}`;
  const applied = applyFields(json(live), record?.ownership ?? {}, wanted, writer, options.force);
  const next = stamp(record?.object, applied.object as unknown as KubeObject, options.now);
  if (record !== undefined && next === record.object && sameJson(record.ownership, applied.ownership)) return record;
  return { ...record, format: 1, object: next, ownership: applied.ownership };
}

/** The record after a patch; the same one when nothing changed. Throws StoreError CONFLICT or INVALID. */
export function patchedRecord(record: StateRecord, patch: Patch, options: ChangeOptions): StateRecord {
  const live = json(record.object);
  const result = patch.type === "merge" ? mergePatch(live, patch.body as Json) : jsonPatch(live, patch.body);
  if (!isMap(result) || !isMap(result.metadata)) throw new StoreError("INVALID", "the patch leaves no object");
  const { resourceVersion, uid } = result.metadata;
  checkPrecondition(record.object, { resourceVersion, uid });
  const wanted = restrict(live, result, record.object, options.subresource);
  const next = stamp(record.object, wanted as unknown as KubeObject, options.now);
  if (next === record.object) return record;
  const ownership = ownershipAfterPatch(live, json(next), record.ownership, options.writer, USER_WRITER);
  return { ...record, object: next, ownership };
}

function checkPrecondition(
  object: KubeObject,
  wanted: { readonly resourceVersion?: unknown; readonly uid?: unknown },
): void {
  for (const field of ["resourceVersion", "uid"] as const) {
    const want = wanted[field];
    if (want === undefined || want === "" || want === object.metadata[field]) continue;
    throw new StoreError("CONFLICT", `${object.kind} ${object.metadata.name} has changed: its ${field} is another`);
  }
}

/** What a write through a sub-resource may change: everything but status, or only status (and on built-in kinds metadata). */
function restrict(
  live: JsonMap | undefined,
  next: JsonMap,
  about: KubeObject,
  subresource: "status" | undefined,
): JsonMap {
  const { status, ...rest } = next;
  if (subresource === undefined) return live?.status === undefined ? rest : { ...rest, status: live.status };
  const { group } = splitApiVersion(about.apiVersion);
  const builtIn = BUILT_IN_GROUP.test(group) && !CUSTOM_GROUPS.has(group);
  const kept: Record<string, Json> = live === undefined ? {} : { ...live };
  delete kept.status;
  if (builtIn && next.metadata !== undefined) kept.metadata = next.metadata;
  return status === undefined ? kept : { ...kept, status };
}

/** `next` with the metadata that nobody but the store writes; `live` itself when nothing else differs. */
function stamp(live: KubeObject | undefined, next: KubeObject, now: Moment): KubeObject {
  checkTexts(next);
  checkKeys(json(next));
  const { metadata } = next;
  const created = live?.metadata.creationTimestamp ?? `${new Date(now.wall).toISOString().slice(0, 19)}Z`;
  const identity = {
    name: live?.metadata.name ?? metadata.name,
    ...(metadata.namespace === undefined ? {} : { namespace: live?.metadata.namespace ?? metadata.namespace }),
    uid: live?.metadata.uid ?? metadata.uid ?? uidOf(next, now.version),
    creationTimestamp: created,
  };
  const labels =
    next.kind === NAMESPACE.kind && next.apiVersion === "v1"
      ? { labels: { ...metadata.labels, "kubernetes.io/metadata.name": metadata.name } }
      : {};
  const { resourceVersion: before = "0", generation = 0 } = live?.metadata ?? {};
  const { resourceVersion: _version, generation: _generation, ...kept } = metadata;
  const content = (generationNow: number, version: string): KubeObject => ({
    ...next,
    ...(live === undefined ? {} : { apiVersion: live.apiVersion, kind: live.kind }),
    metadata: {
      ...kept,
      ...labels,
      ...identity,
      ...(next.spec === undefined ? {} : { generation: generationNow }),
      resourceVersion: version,
    },
  });
  if (live !== undefined && sameJson(json(content(generation, before)), json(live))) return live;
  const sameSpec = live !== undefined && sameJson(specOf(live), specOf(next));
  // A later object of the same name gets a later version, whichever process makes it.
  const version = Math.max(Number(before) + 1, now.version);
  return content(sameSpec ? generation : generation + 1, String(version));
}

/** The same for the same object made at the same time; a later object of the name has another. */
function uidOf(object: KubeObject, version: number): string {
  const { namespace = "", name } = object.metadata;
  const { group } = splitApiVersion(object.apiVersion);
  const hex = createHash("sha256")
    .update(JSON.stringify([group, object.kind, namespace, name, version]))
    .digest("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

function checkTexts(object: KubeObject): void {
  for (const field of ["labels", "annotations"] as const) {
    for (const [key, value] of Object.entries(object.metadata[field] ?? {})) {
      if (typeof value === "string") continue;
      throw new StoreError(
        "INVALID",
        `${object.kind} ${object.metadata.name}: metadata.${field}.${key} must be a string`,
      );
    }
  }
}

/** This key would not stay data in JavaScript, and no API has it. */
function checkKeys(value: Json): void {
  if (typeof value !== "object" || value === null) return;
  if (!Array.isArray(value) && Object.hasOwn(value, "__proto__")) {
    throw new StoreError("INVALID", "__proto__ is no field of any kind");
  }
  for (const item of Object.values(value) as Json[]) checkKeys(item);
}

function specOf(object: KubeObject): Json {
  const { metadata: _metadata, status: _status, ...rest } = json(object);
  return rest;
}

function json(object: KubeObject): JsonMap {
  return object as unknown as JsonMap;
}
