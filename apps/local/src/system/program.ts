import { sleep } from "@tulle/base";
import { Child } from "../runtime/child-process.ts";
import type { LogFile } from "../runtime/log-file.ts";
import { Restarting } from "../runtime/restarting.ts";

export interface ProgramOptions {
  /** For people: `ztunnel of node-1`. */
  readonly name: string;
  readonly command: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly log: LogFile;
  /** Undefined: it is ready; else why not. Never rejects. */
  readonly check: () => Promise<string | undefined>;
  /** Its process or its readiness is another. */
  readonly changed: () => void;
}

/** A part that is down stops traffic or changes: it comes back at once, and ever later only when it does not stay. */
const RESTART_MS = 50;
const STARTING_POLL_MS = 100;
const READY_POLL_MS = 500;
const NOT_RUNNING = "it is not running";

/** A program of the mesh: kept running, and asked whether it is ready. */
export class Program {
  readonly name: string;
  readonly logPath: string;
  readonly #options: ProgramOptions;
  readonly #process: Restarting;
  readonly #stopping = new AbortController();
  readonly #asking: Promise<void>;
  #problem: string | undefined = NOT_RUNNING;
  #pid: number | undefined;

  constructor(options: ProgramOptions) {
    this.name = options.name;
    this.logPath = options.log.path;
    this.#options = options;
    const { command, log, env } = options;
    this.#process = new Restarting({
      start: () => new Child(command, { log, env }),
      log,
      changed: () => this.#look(this.#process.child === undefined ? NOT_RUNNING : this.#problem),
      restartMs: RESTART_MS,
    });
    this.#asking = this.#ask();
  }

  get pid(): number | undefined {
    return this.#process.child?.pid;
  }

  get restarts(): number {
    return this.#process.restarts;
  }

  /** Why it is not ready; undefined: it is. */
  get problem(): string | undefined {
    return this.#problem;
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort();
    await Promise.all([this.#process.stop(graceMs), this.#asking]);
  }

  async #ask(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await sleep(this.#problem === undefined ? READY_POLL_MS : STARTING_POLL_MS, signal);
      const { pid } = this;
      if (signal.aborted || pid === undefined) continue;
      const problem = await this.#options.check();
      // The answer may be of one that is gone meanwhile.
      if (this.pid === pid) this.#look(problem);
    }
  }

  #look(problem: string | undefined): void {
    const { pid } = this;
    if (pid === this.#pid && problem === this.#problem) return;
    this.#pid = pid;
    this.#problem = problem;
    this.#options.changed();
  }
}
