import { type Log, messageOf } from "@tulle/base";
import { type KubeObject, StoreError } from "../contract.ts";
import { kindOf, NAMESPACE, splitApiVersion } from "../kinds.ts";
import { applyObject, type Moment, USER_WRITER } from "./record-change.ts";
import type { ObjectKey, StateFolder, StateRecord } from "./state-folder.ts";
import type { UserDirectory } from "./user-directory.ts";
import { type FileContent, formatProblem, type Problem, type UserObject } from "./yaml-documents.ts";

export interface ImportResult {
  /** All that is wrong with the directory now. */
  readonly problems: readonly Problem[];
  /** Import again after so many milliseconds: a file was being written. */
  readonly againMs: number | undefined;
  /** Objects that this run added, replaced or removed. */
  readonly changes: number;
  /** Objects that the directory declares, as far as they are in force. */
  readonly declared: number;
}

/** A declared object and where it is written. */
export type Declared = Pick<UserObject, "file" | "line" | "object">;
/** What cannot be seen in one document alone. A file that is named is left out as a whole, and the rest judged anew. */
export type TogetherCheck = (declared: readonly Declared[]) => readonly Problem[];

/** There without being declared, as in a cluster in which Tulle is installed. */
export const ALWAYS_NAMESPACES: readonly string[] = ["default", "istio-system", "kube-system"];
const IMPORT_LOCK = "import";

/**
 * Brings the state folder in line with the user's directory. What a file says is applied as one writer's fields; what Tulle
 * wrote beside them stays. A file counts as a whole or not at all: one with a problem, or one that contradicts the
 * others, leaves the objects that it declared last. Any process may do it: under a lock, and with nothing to do for the next.
 */
export class Importer {
  readonly #directory: UserDirectory | undefined;
  readonly #state: StateFolder;
  readonly #now: () => Moment;
  readonly #log: Log;
  readonly #together: TogetherCheck | undefined;
  readonly #reported = new Set<string>();
  #changes = 0;

  constructor(options: {
    readonly directory: UserDirectory | undefined;
    readonly state: StateFolder;
    readonly together?: TogetherCheck | undefined;
    readonly now: () => Moment;
    readonly log: Log;
  }) {
    this.#directory = options.directory;
    this.#together = options.together;
    this.#state = options.state;
    this.#now = options.now;
    this.#log = options.log;
  }

  /** Rejects with StoreError UNAVAILABLE when the lock or the state folder fails. */
  run(): Promise<ImportResult> {
    return this.#state.locks.holdLong(IMPORT_LOCK, async () => {
      this.#state.scan();
      for (const name of ALWAYS_NAMESPACES) await this.#ensureNamespace(name);
      if (this.#directory === undefined) return { problems: [], againMs: undefined, changes: 0, declared: 0 };
      try {
        this.#changes = 0;
        return await this.#import(this.#directory);
      } catch (error) {
        if (error instanceof StoreError) throw error;
        const message = `cannot be read: ${messageOf(error)}; what it said last stays`;
        return {
          problems: [{ file: this.#directory.path, line: 1, message }],
          againMs: undefined,
          changes: 0,
          declared: 0,
        };
      }
    });
  }

  async #import(directory: UserDirectory): Promise<ImportResult> {
    const { files, problems: unread, againMs } = directory.read();
    const problems: Problem[] = [...unread];
    const records = [...this.#state.records()].filter((record) => record.user !== undefined);
    const bad = new Set<string>();
    const good = new Map<string, FileContent>();
    for (const [name, content] of files) {
      if (content === undefined || content.problems.length > 0) bad.add(name);
      else good.set(name, content);
      problems.push(...(content?.problems ?? []));
    }
    this.#leaveOutContradictions(good, bad, records, problems);
    const wanted = new Map<string, UserObject>();
    for (const { objects } of good.values()) for (const one of objects) wanted.set(textOf(keyOf(one.object)), one);
    const kept = records.filter((record) => bad.has(record.user?.file ?? ""));
    // Namespaces first when objects come, last when they go: nobody sees an object in a namespace that is not there.
    for (const one of [...wanted.values()].sort(namespacesFirst)) await this.#take(one, problems);
    const inUse = new Set([...kept, ...[...wanted.values()]].map(({ object }) => object.metadata.namespace ?? ""));
    const going = records.filter((record) => !kept.includes(record) && !wanted.has(textOf(keyOf(record.object))));
    for (const record of going.sort(namespacesFirst).toReversed()) {
      const isNamespace = record.object.kind === NAMESPACE.kind;
      if (isNamespace && inUse.has(record.object.metadata.name)) continue;
      await this.#drop(record);
    }
    this.#reportUnknownKinds(wanted.values());
    return { problems, againMs, changes: this.#changes, declared: wanted.size + kept.length };
  }

  /** Moves files that declare what is declared elsewhere, or use an undeclared namespace, from good to bad. */
  #leaveOutContradictions(
    good: Map<string, FileContent>,
    bad: Set<string>,
    records: readonly StateRecord[],
    problems: Problem[],
  ): void {
    // One file out can leave another without its namespace: at most one round per file.
    for (let rounds = good.size; rounds >= 0; rounds--) {
      const found = [
        ...this.#duplicates(good, bad, records),
        ...undeclared(good, bad, records),
        ...this.#contradictions(good, bad, records),
      ];
      if (found.length === 0) return;
      problems.push(...found);
      for (const { file } of found) {
        good.delete(file);
        bad.add(file);
      }
    }
  }

  #contradictions(
    good: ReadonlyMap<string, FileContent>,
    bad: ReadonlySet<string>,
    records: readonly StateRecord[],
  ): readonly Problem[] {
    if (this.#together === undefined) return [];
    const declared: Declared[] = [...good.values()].flatMap(({ objects }) => objects);
    // Bad files stand as they were last.
    for (const { object, user } of records)
      if (user !== undefined && bad.has(user.file)) declared.push({ ...user, object });
    return this.#together(declared).filter(({ file }) => good.has(file));
  }

  #duplicates(
    good: ReadonlyMap<string, FileContent>,
    bad: ReadonlySet<string>,
    records: readonly StateRecord[],
  ): Problem[] {
    const owners = new Map<string, { readonly file: string; readonly line: number }>();
    for (const { object, user } of records) if (user !== undefined) owners.set(textOf(keyOf(object)), user);
    const first = new Map<string, { readonly file: string; readonly line: number }>();
    // Who declared it before goes on declaring it; between newcomers the name of the file decides.
    for (const [key, owner] of owners) if (bad.has(owner.file)) first.set(key, owner);
    for (const [name, { objects }] of good) {
      for (const one of objects) {
        const key = textOf(keyOf(one.object));
        if (owners.get(key)?.file === name && !first.has(key)) first.set(key, one);
      }
    }
    const problems: Problem[] = [];
    for (const { objects } of good.values()) {
      for (const one of objects) {
        const key = textOf(keyOf(one.object));
        const other = first.get(key);
        if (other === undefined) first.set(key, one);
        else if (other.file !== one.file || other.line !== one.line) {
          const { kind, metadata } = one.object;
          const message = `${kind} ${metadata.name} is declared at ${other.file}:${other.line} already`;
          problems.push({ file: one.file, line: one.line, message });
        }
      }
    }
    return problems;
  }

  async #take(one: UserObject, problems: Problem[]): Promise<void> {
    const { file, line, hash } = one;
    try {
      await this.#state.update(keyOf(one.object), (before) => {
        const { user } = before ?? {};
        if (before !== undefined && user?.hash === hash) {
          return user.file === file && user.line === line ? before : { ...before, user: { file, line, hash } };
        }
        const after = applyObject(before, one.object, { writer: USER_WRITER, force: true, now: this.#now() });
        this.#changes += 1;
        return { ...after, user: { file, line, hash } };
      });
    } catch (error) {
      if (!(error instanceof StoreError) || error.code === "UNAVAILABLE") throw error;
      problems.push({ file, line, message: error.message });
    }
  }

  async #drop({ object, user }: StateRecord): Promise<void> {
    const always = object.kind === NAMESPACE.kind && ALWAYS_NAMESPACES.includes(object.metadata.name);
    await this.#state.update(keyOf(object), (now) => {
      // Another process took it up again, or away.
      if (now === undefined || now.user?.hash !== user?.hash) return now;
      this.#changes += 1;
      if (!always) return undefined;
      const bare = { apiVersion: object.apiVersion, kind: object.kind, metadata: { name: object.metadata.name } };
      const { user: _user, ...rest } = applyObject(now, bare, {
        writer: USER_WRITER,
        force: true,
        now: this.#now(),
      });
      return rest;
    });
  }

  async #ensureNamespace(name: string): Promise<void> {
    const object: KubeObject = { apiVersion: "v1", kind: NAMESPACE.kind, metadata: { name } };
    if (this.#state.get(keyOf(object)) !== undefined) return;
    await this.#state.update(
      keyOf(object),
      (before) => before ?? applyObject(undefined, object, { writer: USER_WRITER, force: true, now: this.#now() }),
    );
  }

  #reportUnknownKinds(objects: Iterable<UserObject>): void {
    for (const { file, line, object } of objects) {
      const kind = `${object.apiVersion} ${object.kind}`;
      if (kindOf(object) !== undefined || this.#reported.has(kind)) continue;
      this.#reported.add(kind);
      const place = formatProblem({ file, line, message: "kept" });
      this.#log.info("a kind that no part of Tulle reads is kept without effect", { kind, place });
    }
  }
}

export function keyOf(object: KubeObject): ObjectKey {
  const { namespace = "", name } = object.metadata;
  return { group: splitApiVersion(object.apiVersion).group, kind: object.kind, namespace, name };
}

function undeclared(
  good: ReadonlyMap<string, FileContent>,
  bad: ReadonlySet<string>,
  records: readonly StateRecord[],
): Problem[] {
  const declared = new Set(ALWAYS_NAMESPACES);
  for (const { objects } of good.values()) {
    for (const { object } of objects) if (object.kind === NAMESPACE.kind) declared.add(object.metadata.name);
  }
  for (const { object, user } of records) {
    if (object.kind === NAMESPACE.kind && bad.has(user?.file ?? "")) declared.add(object.metadata.name);
  }
  const problems: Problem[] = [];
  for (const { objects } of good.values()) {
    for (const { file, namespaceLine, object } of objects) {
      const { namespace, name } = object.metadata;
      if (namespace === undefined || declared.has(namespace)) continue;
      const message = `${object.kind} ${name}: namespace ${namespace} is not declared; add a Namespace object for it`;
      problems.push({ file, line: namespaceLine, message });
    }
  }
  return problems;
}

function textOf({ group, kind, namespace, name }: ObjectKey): string {
  return `${kind}.${group}/${namespace}/${name}`;
}

function namespacesFirst(a: { readonly object: KubeObject }, b: { readonly object: KubeObject }): number {
  return Number(b.object.kind === NAMESPACE.kind) - Number(a.object.kind === NAMESPACE.kind);
}
