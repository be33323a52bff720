import { type ChildProcess, spawn } from "node:child_process";
import { MeshError } from "@tulle/base";
import { inNamespace } from "./command.ts";
import { until } from "./until.ts";

export interface SpawnOptions {
  /** Path of a network namespace (`/run/netns/x`) to run in. Default: the caller's. */
  readonly namespace?: string;
  /** Added to the caller's environment; undefined takes a variable away. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly directory?: string;
}

export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** How much of what a process writes is kept: enough for the last errors. */
const MAX_KEPT_OUTPUT = 256 * 1024;
/** How long a process may take to end after SIGTERM before SIGKILL. */
const TERM_GRACE_MS = 3000;

/**
 * A process that runs until it is stopped. It dies with the process that started it, and leads a process group, so that
 * its own children go with it.
 */
export class LabProcess implements AsyncDisposable {
  readonly pid: number;
  /** How it ended; never rejects. */
  readonly ended: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  readonly #command: string;
  #output = "";
  #end: ProcessEnd | undefined;

  private constructor(child: ChildProcess, pid: number, command: string) {
    this.#child = child;
    this.#command = command;
    this.pid = pid;
    const keep = (chunk: string) => {
      this.#output = (this.#output + chunk).slice(-MAX_KEPT_OUTPUT);
    };
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", keep);
      // A broken pipe only means that the process has ended.
      stream?.on("error", () => {});
    }
    // Its children would keep the streams open, and themselves alive.
    child.on("exit", () => this.#killGroup());
    this.ended = new Promise((resolve) => {
      child.on("close", (code, signal) => {
        this.#end = { code, signal };
        resolve(this.#end);
      });
    });
  }

  /** Throws MeshError COMMAND_FAILED when the program cannot be started. */
  static async start(program: string, args: readonly string[], options: SpawnOptions = {}): Promise<LabProcess> {
    const words = inNamespace(options.namespace, "setpriv", ["--pdeathsig", "KILL", "--", program, ...args]);
    const child = spawn(words[0] as string, words.slice(1), {
      cwd: options.directory,
      env: { ...process.env, ...options.environment },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", (error) =>
        reject(
          new MeshError(`${program}: ${error.message}`, { code: "COMMAND_FAILED", side: "internal", cause: error }),
        ),
      );
    });
    // Node sends errors of later kills here; `stop` looks at the process itself.
    child.on("error", () => {});
    return new LabProcess(child, child.pid as number, [program, ...args].join(" "));
  }

  /** What it has written to both streams, the last 256 KiB. */
  get output(): string {
    return this.#output;
  }

  get running(): boolean {
    return this.#end === undefined;
  }

  /** Waits until its output matches. Throws MeshError when it ends before that, or after `timeoutMs` (default 10 s). */
  async waitForOutput(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray> {
    const found = await until(() => pattern.exec(this.#output) ?? (this.running ? undefined : "ended"), {
      what: `${pattern} from ${this.#command}, which wrote:\n${this.#output}`,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
    if (typeof found !== "string") return found;
    throw new MeshError(`${this.#command} ended before it wrote ${pattern}:\n${this.#output}`, {
      code: "COMMAND_FAILED",
      side: "internal",
    });
  }

  signal(signal: NodeJS.Signals): void {
    if (this.running) this.#child.kill(signal);
  }

  /** Ends it and its group: SIGTERM, after three seconds SIGKILL. Idempotent. */
  async stop(): Promise<ProcessEnd> {
    this.signal("SIGTERM");
    const timer = setTimeout(() => this.#killGroup(), TERM_GRACE_MS);
    const end = await this.ended;
    clearTimeout(timer);
    return end;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #killGroup(): void {
    try {
      process.kill(-this.pid, "SIGKILL");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}
