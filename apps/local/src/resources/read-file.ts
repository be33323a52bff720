import { type Document, isMap, isScalar, LineCounter, parseAllDocuments } from "yaml";
import { checkOf, isKind, KINDS } from "./fields.ts";
import type { Resource } from "./kinds.ts";
import { findings, formatPath, isRecord, type Path } from "./schema.ts";

/** Something wrong in a user's file. `line` counts from 1. */
export interface Problem {
  readonly file: string;
  readonly line: number;
  readonly message: string;
}

/** A resource and where it was written. */
export interface Located {
  readonly file: string;
  readonly line: number;
  readonly resource: Resource;
}

export interface FileContent {
  readonly resources: readonly Located[];
  readonly problems: readonly Problem[];
}

/** `details.yaml:12: …`, the form that editors and terminals turn into links. */
export function formatProblem(problem: Problem): string {
  return `${problem.file}:${problem.line}: ${problem.message}`;
}

const DEFAULT_NAMESPACE = "default";

/** Reads one file of one or more YAML documents. Empty documents are skipped; a document with a problem yields no resource. */
export function readFile(file: string, text: string): FileContent {
  const lines = new LineCounter();
  const resources: Located[] = [];
  const problems: Problem[] = [];
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false });
  if (!Array.isArray(documents)) return { resources, problems };
  for (const document of documents) {
    const report = (offset: number, message: string) => problems.push({ file, line: lineAt(lines, offset), message });
    if (document.errors.length > 0) {
      for (const error of document.errors) report(error.pos[0], error.message);
      continue;
    }
    const value: unknown = document.toJS({ maxAliasCount: 100 });
    if (value === null || value === undefined) continue;
    const start = document.contents?.range?.[0] ?? 0;
    const resource = toResource(value, (path, message) => report(offsetOf(document, path) ?? start, message));
    if (resource !== undefined) resources.push({ file, line: lineAt(lines, start), resource });
  }
  return { resources, problems };
}

function toResource(value: unknown, report: (path: Path, message: string) => void): Resource | undefined {
  if (!isRecord(value)) {
    report([], "must be a Kubernetes object");
    return undefined;
  }
  const { kind } = value;
  if (!isKind(kind)) {
    const said =
      kind === undefined ? "must have a kind" : `kind ${JSON.stringify(kind)} is not supported by the local mesh`;
    report(["kind"], `${said} (it knows ${KINDS.join(", ")})`);
    return undefined;
  }
  const found = findings(value, checkOf(kind));
  const name = isRecord(value.metadata) && typeof value.metadata.name === "string" ? ` ${value.metadata.name}` : "";
  for (const { path, message } of found)
    report(path, `${kind}${name}: ${[formatPath(path), message].join(" ").trim()}`);
  if (found.length > 0) return undefined;
  return withDefaults(value as unknown as Resource);
}

/** The namespace that Kubernetes would fill in. */
function withDefaults(resource: Resource): Resource {
  const namespace = resource.kind === "Namespace" ? "" : (resource.metadata.namespace ?? DEFAULT_NAMESPACE);
  const filled = { ...resource, metadata: { ...resource.metadata, namespace } };
  if (filled.kind === "AuthorizationPolicy" || filled.kind === "PeerAuthentication") {
    return { ...filled, spec: filled.spec ?? {} };
  }
  return filled;
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

function lineAt(lines: LineCounter, offset: number): number {
  return Math.max(1, lines.linePos(offset).line);
}
