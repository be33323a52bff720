import { readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Random, sleep } from "@tulle/base";
import { StoreError } from "../contract.ts";

/** A write waits this long for the others; each of them holds a lock for about a millisecond. */
export const LOCK_WAIT_MS = 5_000;
const POLL_MS = { least: 1, spread: 4 };
/** When the owner of a lock cannot be judged (other PID namespace, half-written file), its age decides. */
const STALE_MS = 10_000;

/**
 * Locks between processes: files made with O_EXCL that name their owner. A lock whose owner is dead is taken away. Work
 * under a lock is synchronous, so within one process nobody waits.
 */
export class LockFolder {
  readonly #folder: string;
  readonly #owner: string;
  /** Whose process ids the owners of locks are. */
  readonly namespace: string;
  readonly #random: Random;
  readonly #waitMs: number;

  constructor(folder: string, options: { readonly random: Random; readonly waitMs?: number }) {
    this.#folder = folder;
    this.#random = options.random;
    this.#waitMs = options.waitMs ?? LOCK_WAIT_MS;
    this.namespace = pidNamespace();
    this.#owner = JSON.stringify({ pid: process.pid, started: startTime(process.pid), namespace: this.namespace });
  }

  /** Runs `work` while no other process holds the lock. Rejects with StoreError UNAVAILABLE after LOCK_WAIT_MS. */
  async hold<T>(name: string, work: () => T, signal?: AbortSignal): Promise<T> {
    const path = await this.#acquire(name, signal);
    try {
      return work();
    } finally {
      rmSync(path, { force: true });
    }
  }

  /** As `hold`, for work that waits for other locks. Not for two parts of one process at once. */
  async holdLong<T>(name: string, work: () => Promise<T>): Promise<T> {
    const path = await this.#acquire(name);
    try {
      return await work();
    } finally {
      rmSync(path, { force: true });
    }
  }

  async #acquire(name: string, signal?: AbortSignal): Promise<string> {
    const path = join(this.#folder, `${name}.lock`);
    const deadline = performance.now() + this.#waitMs;
    for (;;) {
      if (signal?.aborted) throw new StoreError("UNAVAILABLE", `${name}: given up before its lock was free`);
      if (this.#take(path)) return path;
      this.#breakStale(path);
      if (performance.now() > deadline) {
        throw new StoreError("UNAVAILABLE", `${name}: locked for ${this.#waitMs / 1000} s by ${readOwner(path)}`);
      }
      await sleep(POLL_MS.least + POLL_MS.spread * this.#random(), signal);
    }
  }

  #take(path: string): boolean {
    try {
      writeFileSync(path, this.#owner, { flag: "wx", mode: 0o600 });
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
      throw new StoreError("UNAVAILABLE", `cannot make the lock ${path}`, error);
    }
  }

  /** Only one process at a time takes locks away, and looks again before it does: a fresh lock is never the one removed. */
  #breakStale(path: string): void {
    if (!this.#isStale(path)) return;
    const breaking = `${path}.breaking`;
    if (this.#take(breaking)) {
      if (this.#isStale(path)) rmSync(path, { force: true });
      rmSync(breaking, { force: true });
    } else if (ageOf(breaking) > STALE_MS) {
      rmSync(breaking, { force: true });
    }
  }

  #isStale(path: string): boolean {
    const text = readOwner(path);
    if (text === "nobody") return false;
    let owner: { pid?: unknown; started?: unknown; namespace?: unknown };
    try {
      owner = JSON.parse(text) as typeof owner;
    } catch {
      // Between creation and writing, or its writer died there.
      return ageOf(path) > STALE_MS;
    }
    if (owner.namespace !== this.namespace || typeof owner.pid !== "number") return ageOf(path) > STALE_MS;
    return startTime(owner.pid) !== owner.started;
  }
}

function readOwner(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // It was released in this moment.
    return "nobody";
  }
}

function ageOf(path: string): number {
  try {
    return Date.now() - statSync(path).mtimeMs;
  } catch {
    // It is gone.
    return 0;
  }
}

/** Field 22 of /proc/PID/stat: tells a process from a later one with the same id. Empty: there is no such process. */
function startTime(pid: number): string {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  } catch {
    // No such process.
    return "";
  }
}

function pidNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    // Without /proc no owner can be judged: age decides.
    return `unknown-${process.pid}`;
  }
}
