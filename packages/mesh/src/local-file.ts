import { LineCounter, parseDocument } from "yaml";
import { readPolicy } from "./local/policies.ts";
import { readService, readWorkload } from "./local/resources.ts";
import { LocalFileError, YamlCursor, yamlSource } from "./local/yaml-cursor.ts";
import { dumpPolicy, dumpService, dumpWorkload, type Json } from "./dump.ts";
import type { Policy, Service, Workload } from "./model.ts";
import { type PutChange, resourceKey } from "./resource-log.ts";

/** What LOCAL_XDS_PATH or LOCAL_XDS says (spec: l4-ztunnel §5.8). */
export interface LocalConfig {
  readonly workloads: readonly Workload[];
  readonly services: readonly Service[];
  readonly policies: readonly Policy[];
}

export type LocalFileResult =
  | { readonly ok: true; readonly config: LocalConfig }
  /** Each `file:line:column: path: problem`. Nothing of the file counts; who reloads keeps what was. */
  | { readonly ok: false; readonly errors: readonly string[] };

/** Text beyond this is refused, in characters; a workload takes about 500. */
export const MAX_LOCAL_FILE_LENGTH = 64 * 1024 * 1024;

/** After so many complaints the rest is not read. */
const MAX_ERRORS = 20;

const TOP_LEVEL = ["workloads", "services", "policies"];

/** Reads the whole file; every resource that is wrong is named. `name` is how errors call the file. */
export function parseLocalFile(text: string, name: string): LocalFileResult {
  if (text.length > MAX_LOCAL_FILE_LENGTH)
    return { ok: false, errors: [`${name}: longer than ${MAX_LOCAL_FILE_LENGTH}`] };
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, version: "1.2" });
  if (document.errors.length > 0) {
    const errors = document.errors.slice(0, MAX_ERRORS).map((error) => {
      const { line, col } = lines.linePos(error.pos[0]);
      return `${name}:${line}:${col}: ${error.message}`;
    });
    return { ok: false, errors };
  }
  const reader = new Reader();
  const root = new YamlCursor(yamlSource(document, lines), document.contents, "");
  const config = reader.try(() => reader.config(root)) ?? EMPTY;
  if (reader.errors.length > 0) return { ok: false, errors: reader.errors.map((error) => `${name}:${error}`) };
  return { ok: true, config };
}

/** The same as changes, for ResourceLog. */
export function localResources(config: LocalConfig): readonly PutChange[] {
  return [
    ...config.policies.map((policy) => ({ kind: "policy" as const, policy })),
    ...config.services.map((service) => ({ kind: "service" as const, service })),
    ...config.workloads.map((workload) => ({ kind: "workload" as const, workload })),
  ];
}

/** `staticConfig` of `/config_dump`: in the order of the file, workloads with their ports. */
export function dumpLocalConfig(config: LocalConfig): { readonly [key in keyof LocalConfig]: readonly Json[] } {
  return {
    policies: config.policies.map(dumpPolicy),
    services: config.services.map((service) => dumpService(service, [])),
    workloads: config.workloads.map((workload) => dumpWorkload(workload, "map")),
  };
}

const EMPTY: LocalConfig = { workloads: [], services: [], policies: [] };

/** Goes on after a wrong resource, so that one run shows all that is wrong. */
class Reader {
  readonly errors: string[] = [];
  readonly #seen = new Set<string>();

  try<T>(read: () => T): T | undefined {
    if (this.errors.length >= MAX_ERRORS) return undefined;
    try {
      return read();
    } catch (error) {
      if (!(error instanceof LocalFileError)) throw error;
      this.errors.push(error.message);
      return undefined;
    }
  }

  config(root: YamlCursor): LocalConfig {
    if (root.isNull) return EMPTY;
    const fields = root.fields(TOP_LEVEL);
    return {
      workloads: this.#list(fields.get("workloads"), (at) => {
        const workload = readWorkload(at);
        this.#unique(at, { kind: "workload", workload });
        return workload;
      }),
      services: this.#list(fields.get("services"), (at) => {
        const service = readService(at);
        this.#unique(at, { kind: "service", service });
        return service;
      }),
      policies: this.#list(fields.get("policies"), (at) => {
        const policy = readPolicy(at);
        this.#unique(at, { kind: "policy", policy });
        return policy;
      }),
    };
  }

  #list<T>(at: YamlCursor | undefined, read: (item: YamlCursor) => T): readonly T[] {
    if (at === undefined || at.isNull) return [];
    const items = at.list((item) => this.try(() => read(item)));
    return items.filter((item) => item !== undefined);
  }

  #unique(at: YamlCursor, change: PutChange): void {
    const key = resourceKey(change);
    const id = `${change.kind} "${key}"`;
    if (this.#seen.has(id)) at.fail(`${id} is there twice`);
    this.#seen.add(id);
  }
}
