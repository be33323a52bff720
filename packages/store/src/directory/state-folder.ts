import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Log, messageOf, type Random } from "@tulle/base";
import { type KubeObject, StoreError } from "../contract.ts";
import type { Ownership } from "./field-ownership.ts";
import { LockFolder } from "./object-lock.ts";

/** One object as it lies in the state folder. */
export interface StateRecord {
  readonly format: 1;
  readonly object: KubeObject;
  readonly ownership: Ownership;
  /** Where the user declares it; missing on objects that Tulle made. */
  readonly user?: { readonly file: string; readonly line: number; readonly hash: string };
}

export interface ObjectKey {
  readonly group: string;
  readonly kind: string;
  /** Empty on cluster-scoped kinds. */
  readonly namespace: string;
  readonly name: string;
}

export type RecordListener = (before: StateRecord | undefined, after: StateRecord | undefined) => void;

/** As etcd's limit of a request. */
const MAX_OBJECT_BYTES = 1.5 * 1024 * 1024;
/** File systems take 255 bytes; locks add a suffix. */
const MAX_FILE_NAME = 200;

/**
 * The objects of a directory store: one file each, replaced by renaming, so that a reader sees an object whole or not at
 * all. Several processes use one folder; what the others wrote is seen by `scan` and `refresh`.
 */
export class StateFolder {
  readonly objectsPath: string;
  readonly locks: LockFolder;
  readonly #temporaryPath: string;
  readonly #files = new Map<string, { readonly stamp: string; readonly record: StateRecord | undefined }>();
  readonly #log: Log;
  readonly #listener: RecordListener;
  #serial = 0;

  /** Makes the folder (0700) if need be. Throws StoreError INVALID when it belongs to somebody else or cannot be made. */
  constructor(
    path: string,
    options: { readonly log: Log; readonly random: Random; readonly listener: RecordListener },
  ) {
    this.objectsPath = join(path, "objects");
    this.#temporaryPath = join(path, "tmp");
    const locksPath = join(path, "locks");
    try {
      for (const folder of [path, this.objectsPath, this.#temporaryPath, locksPath]) {
        mkdirSync(folder, { recursive: true, mode: 0o700 });
        const { uid, mode } = statSync(folder);
        if (uid !== process.geteuid?.()) throw new Error(`${folder} belongs to user ${uid}`);
        if ((mode & 0o077) !== 0) chmodSync(folder, 0o700);
      }
    } catch (error) {
      throw new StoreError("INVALID", `cannot use the state folder ${path}: ${messageOf(error)}`, error);
    }
    this.locks = new LockFolder(locksPath, options);
    this.#log = options.log;
    this.#listener = options.listener;
  }

  /** What is known; `scan` or `refresh` first where it must be of now. */
  *records(): Iterable<StateRecord> {
    for (const { record } of this.#files.values()) if (record !== undefined) yield record;
  }

  /** The object as its file has it now. */
  get(key: ObjectKey): StateRecord | undefined {
    const file = fileOf(key);
    this.refresh(file);
    return this.#files.get(file)?.record;
  }

  /** Looks at all files, and reads those that changed. */
  scan(): void {
    const names = new Set(readdirSync(this.objectsPath).filter((name) => name.endsWith(".json")));
    for (const name of [...this.#files.keys()]) if (!names.has(name)) this.refresh(name);
    for (const name of names) this.refresh(name);
  }

  /** Reads one file if it changed. */
  refresh(file: string): void {
    if (!file.endsWith(".json")) return;
    const path = join(this.objectsPath, file);
    const known = this.#files.get(file);
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    if (stat === undefined) {
      if (known === undefined) return;
      this.#files.delete(file);
      if (known.record !== undefined) this.#listener(known.record, undefined);
      return;
    }
    const stamp = `${stat.ino}/${stat.mtimeNs}/${stat.size}`;
    if (stamp === known?.stamp) return;
    const record = this.#read(path);
    this.#files.set(file, { stamp, record });
    if (known?.record !== undefined || record !== undefined) this.#listener(known?.record, record);
  }

  /**
   * Replaces one object under its lock. `change` gets it as it is now and gives what it shall be: the same record leaves
   * it alone, undefined removes it. Its own errors come through; UNAVAILABLE when the lock or the disk fails.
   */
  update(
    key: ObjectKey,
    change: (record: StateRecord | undefined) => StateRecord | undefined,
    signal?: AbortSignal,
  ): Promise<StateRecord | undefined> {
    const file = fileOf(key);
    return this.locks.hold(
      file,
      () => {
        this.refresh(file);
        const before = this.#files.get(file)?.record;
        const after = change(before);
        if (after === before) return after;
        try {
          if (after === undefined) rmSync(join(this.objectsPath, file), { force: true });
          else this.#write(file, after);
        } catch (error) {
          if (error instanceof StoreError) throw error;
          throw new StoreError("UNAVAILABLE", `cannot write ${file}: ${messageOf(error)}`, error);
        }
        this.refresh(file);
        return after;
      },
      signal,
    );
  }

  #write(file: string, record: StateRecord): void {
    const text = `${JSON.stringify(record, undefined, 2)}\n`;
    const { kind, metadata } = record.object;
    if (text.length > MAX_OBJECT_BYTES) {
      throw new StoreError("INVALID", `${kind} ${metadata.name}: larger than ${MAX_OBJECT_BYTES} bytes`);
    }
    this.#serial += 1;
    const temporary = join(this.#temporaryPath, `${process.pid}-${this.#serial}`);
    writeFileSync(temporary, text, { mode: 0o600 });
    renameSync(temporary, join(this.objectsPath, file));
  }

  #read(path: string): StateRecord | undefined {
    try {
      const value = JSON.parse(readFileSync(path, "utf8")) as StateRecord;
      if (value.format !== 1 || typeof value.object?.metadata?.name !== "string") throw new Error("not a state file");
      return value;
    } catch (error) {
      // It was removed in this moment, or the machine stopped while it was written: the object counts as absent.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
        this.#log.warn("a state file cannot be read; its object counts as absent", {
          file: path,
          error: messageOf(error),
        });
      }
      return undefined;
    }
  }
}

/** `Pod.core~default~web-1.json`. Neither kinds, groups nor namespaces can hold a tilde. */
export function fileOf({ group, kind, namespace, name }: ObjectKey): string {
  const full = [`${kind}.${group || "core"}`, namespace, name].map(encodeURIComponent).join("~");
  if (full.length <= MAX_FILE_NAME) return `${full}.json`;
  const hash = createHash("sha256").update(full).digest("hex").slice(0, 32);
  return `${full.slice(0, MAX_FILE_NAME - 33)}-${hash}.json`;
}
