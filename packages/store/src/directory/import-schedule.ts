import { type Log, messageOf, sleep } from "@tulle/base";
import type { Importer, ImportResult } from "./importer.ts";
import { SETTLE_MS } from "./user-directory.ts";
import { formatProblem, type Problem } from "./yaml-documents.ts";

/** After a failure that is not the user's: a lock that somebody held, a full disk. */
const RETRY_MS = 1_000;
/** How long the first run waits for a file that is being written. */
const OPEN_SETTLE_MS = 1_000;

/** Runs the importer soon after each change, one run at a time, and tells what is wrong whenever that changes. */
export class ImportSchedule {
  readonly #importer: Importer;
  readonly #log: Log;
  readonly #onProblems: ((problems: readonly Problem[]) => void) | undefined;
  readonly #onImported: ((result: ImportResult) => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #again = false;
  #problems: readonly Problem[] = [];
  #closed = false;

  constructor(options: {
    readonly importer: Importer;
    readonly log: Log;
    readonly onProblems: ((problems: readonly Problem[]) => void) | undefined;
    readonly onImported: ((result: ImportResult) => void) | undefined;
  }) {
    this.#importer = options.importer;
    this.#log = options.log;
    this.#onProblems = options.onProblems;
    this.#onImported = options.onImported;
  }

  get problems(): readonly Problem[] {
    return this.#problems;
  }

  /** The first run, which is repeated while files are being written, and told as one. Rejects with StoreError. */
  async begin(): Promise<void> {
    const deadline = performance.now() + OPEN_SETTLE_MS;
    let changes = 0;
    for (;;) {
      const result = await this.#importer.run();
      changes += result.changes;
      if (result.againMs === undefined || performance.now() >= deadline) {
        this.#tell({ ...result, changes });
        return;
      }
      await sleep(result.againMs);
    }
  }

  soon(ms = SETTLE_MS): void {
    if (this.#closed) return;
    if (this.#running !== undefined) {
      this.#again = true;
      return;
    }
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#running = this.#runAndGoOn();
    }, ms);
  }

  /** Waits for the run that is under way. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  async #runAndGoOn(): Promise<void> {
    this.#again = false;
    let againMs: number | undefined;
    try {
      const result = await this.#importer.run();
      this.#tell(result);
      againMs = result.againMs;
    } catch (error) {
      this.#log.warn("cannot take over the user's directory", { error: messageOf(error) });
      againMs = RETRY_MS;
    }
    this.#running = undefined;
    const next = againMs ?? (this.#again ? SETTLE_MS : undefined);
    if (next !== undefined) this.soon(next);
  }

  #tell(result: ImportResult): void {
    const { problems } = result;
    const text = problems.map(formatProblem);
    if (text.join("\n") !== this.#problems.map(formatProblem).join("\n")) {
      this.#problems = problems;
      if (this.#onProblems !== undefined) this.#onProblems(problems);
      else for (const line of text) this.#log.warn(line);
    }
    this.#onImported?.(result);
  }
}
