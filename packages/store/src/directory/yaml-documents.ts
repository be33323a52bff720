import { createHash } from "node:crypto";
import { type Document, isMap, isScalar, LineCounter, parseAllDocuments } from "yaml";
import type { KubeObject } from "../contract.ts";
import { ALL_KINDS, apiVersionOf, kindOf, splitApiVersion } from "../kinds.ts";

/** Something wrong in a user's file. `line` counts from 1; 1 also stands for the whole file. */
export interface Problem {
  readonly file: string;
  readonly line: number;
  readonly message: string;
}

/** An object and where it was written. */
export interface UserObject {
  readonly file: string;
  readonly line: number;
  /** With namespace and apiVersion as the API would show it, without status. */
  readonly object: KubeObject;
  /** Of what counts in the object. */
  readonly hash: string;
  /** Line of `metadata.namespace`, or of the object. */
  readonly namespaceLine: number;
}

export interface FileContent {
  readonly objects: readonly UserObject[];
  readonly problems: readonly Problem[];
}

/** Steps to a field: keys and indices. */
export type Path = readonly (string | number)[];
/** Tells of something wrong; the line is that of the deepest part of `path` that is written. */
export type Report = (path: Path, message: string) => void;
/** Looks at one document, as parsed. A document of which it reports something is not read any further. */
export type DocumentCheck = (value: unknown, report: Report) => void;

export const DEFAULT_NAMESPACE = "default";
/** Aliases in one document; more is a bomb. */
const MAX_ALIASES = 100;
/** RBAC has names with colons and capitals; no kind has more than that. */
const NAME = /^[a-zA-Z0-9]([a-zA-Z0-9.:_-]{0,251}[a-zA-Z0-9])?$/;
const NAMESPACE_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
/** Versions that are served beside the one of kinds.ts, with the same fields. */
const OTHER_VERSIONS: Readonly<Record<string, readonly string[]>> = {
  "networking.istio.io": ["v1", "v1beta1", "v1alpha3"],
  "security.istio.io": ["v1", "v1beta1"],
  "telemetry.istio.io": ["v1", "v1alpha1"],
  "gateway.networking.k8s.io": ["v1", "v1beta1", "v1alpha2"],
};

/** `details.yaml:12: …`, the form that editors and terminals turn into links. */
export function formatProblem(problem: Problem): string {
  return `${problem.file}:${problem.line}: ${problem.message}`;
}

/** Reads one file of one or more YAML documents; empty ones are skipped. What is wrong with one leaves the others readable. */
export function readDocuments(file: string, text: string, check?: DocumentCheck): FileContent {
  const lines = new LineCounter();
  const objects: UserObject[] = [];
  const problems: Problem[] = [];
  const parsed = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false });
  for (const document of Array.isArray(parsed) ? parsed : []) {
    const lineAt = (offset: number) => Math.max(1, lines.linePos(offset).line);
    const before = problems.length;
    for (const error of document.errors) problems.push({ file, line: lineAt(error.pos[0]), message: error.message });
    if (problems.length > before) continue;
    const start = document.contents?.range?.[0] ?? 0;
    const lineOf = (path: Path) => lineAt(offsetOf(document, path) ?? start);
    let value: unknown;
    try {
      value = document.toJS({ maxAliasCount: MAX_ALIASES });
    } catch (error) {
      problems.push({ file, line: lineAt(start), message: error instanceof Error ? error.message : String(error) });
      continue;
    }
    if (value === null || value === undefined) continue;
    const report: Report = (path, message) => problems.push({ file, line: lineOf(path), message });
    check?.(value, report);
    if (problems.length > before) continue;
    const object = readObject(value, report);
    if (object === undefined || problems.length > before) continue;
    const hash = createHash("sha256").update(JSON.stringify(object)).digest("hex").slice(0, 32);
    const namespaceLine = lineOf(["metadata", "namespace"]);
    objects.push({ file, line: lineAt(start), object, hash, namespaceLine });
  }
  return { objects, problems };
}

/** The object as the API would take it, or undefined after a report. */
function readObject(value: unknown, report: Report): KubeObject | undefined {
  if (!isRecord(value)) {
    report([], "must be a Kubernetes object");
    return undefined;
  }
  const { apiVersion, kind, metadata } = value;
  if (typeof apiVersion !== "string" || apiVersion === "") report(["apiVersion"], "must have an apiVersion");
  if (typeof kind !== "string" || !/^[A-Z][A-Za-z0-9]{0,62}$/.test(kind)) report(["kind"], "must have a kind");
  if (!isRecord(metadata)) report(["metadata"], "must have metadata");
  if (typeof apiVersion !== "string" || typeof kind !== "string" || !isRecord(metadata)) return undefined;
  const { name, namespace, labels, annotations } = metadata;
  if (typeof name !== "string" || !NAME.test(name))
    report(["metadata", "name"], `${kind}: metadata.name must be a name`);
  if (namespace !== undefined && (typeof namespace !== "string" || !NAMESPACE_NAME.test(namespace))) {
    report(["metadata", "namespace"], `${kind} ${String(name)}: metadata.namespace must be a name`);
  }
  checkTexts(labels, ["metadata", "labels"], report);
  checkTexts(annotations, ["metadata", "annotations"], report);
  checkKeys(value, [], report);
  const known = kindOf({ apiVersion, kind });
  const version = known === undefined ? apiVersion : knownVersion(apiVersion, kind, report);
  const { status: _status, ...fields } = value;
  const place = placeOf(known?.namespaced, namespace, `${kind} ${String(name)}`, report);
  const { namespace: _namespace, uid: _uid, resourceVersion: _version, managedFields: _managed, ...kept } = metadata;
  return { ...fields, apiVersion: version, kind, metadata: { ...kept, ...place } } as unknown as KubeObject;
}

/** Versions of one kind differ in nothing that counts here: all become that of kinds.ts. */
function knownVersion(apiVersion: string, kind: string, report: Report): string {
  const { group, version } = splitApiVersion(apiVersion);
  const wanted = ALL_KINDS.find((one) => one.group === group && one.kind === kind);
  if (wanted === undefined) return apiVersion;
  const served = [...new Set([wanted.version, ...(OTHER_VERSIONS[group] ?? [])])];
  if (!served.includes(version)) {
    report(["apiVersion"], `${kind} is not served as ${apiVersion}, but as ${served.join(", ")}`);
  }
  return apiVersionOf(wanted);
}

function placeOf(
  namespaced: boolean | undefined,
  namespace: unknown,
  what: string,
  report: Report,
): { readonly namespace?: string } {
  if (namespaced === false) {
    if (namespace !== undefined) report(["metadata", "namespace"], `${what} lives in no namespace: leave it out`);
    return {};
  }
  if (typeof namespace === "string") return { namespace };
  return namespaced === true ? { namespace: DEFAULT_NAMESPACE } : {};
}

function checkTexts(value: unknown, path: Path, report: Report): void {
  if (value === undefined || value === null) return;
  if (!isRecord(value)) {
    report(path, `${path.join(".")} must be a map`);
    return;
  }
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") report([...path, key], `${path.join(".")}: the value of ${key} must be in quotes`);
  }
}

/** This key would not stay data in JavaScript, and no API has it. */
function checkKeys(value: unknown, path: Path, report: Report): void {
  if (Array.isArray(value)) value.forEach((item, index) => checkKeys(item, [...path, index], report));
  if (!isRecord(value)) return;
  for (const [key, item] of Object.entries(value)) {
    if (key === "__proto__") report([...path, key], "__proto__ is no field of any kind");
    checkKeys(item, [...path, key], report);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Where the deepest part of `path` that exists was written: the key, if the last step is a key of a map. */
function offsetOf(document: Document, path: Path): number | undefined {
  for (let depth = path.length; depth > 0; depth--) {
    const parent: unknown = depth === 1 ? document.contents : document.getIn(path.slice(0, depth - 1), true);
    const last = path[depth - 1];
    if (isMap(parent)) {
      const pair = parent.items.find((item) => isScalar(item.key) && item.key.value === last);
      if (isScalar(pair?.key) && pair.key.range) return pair.key.range[0];
    }
    const node = document.getIn(path.slice(0, depth), true) as { range?: readonly number[] | null } | undefined;
    if (node?.range?.[0] !== undefined) return node.range[0];
  }
  return undefined;
}
