import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import type { LogFile } from "./log-file.ts";

/** Processes that end with this one whatever happens to it, and whose output goes to a bounded log. */

export interface ChildOptions {
  readonly log: LogFile;
  readonly env?: NodeJS.ProcessEnv;
  /** A message channel to a Node program (`process.on("message")`). Default false. */
  readonly channel?: boolean;
}

export interface ExitStatus {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** How long a command may take to be gone after SIGKILL before we stop waiting: only a process stuck in the kernel does. */
const KILL_WAIT_MS = 5000;

export class Child {
  readonly process: ChildProcess;
  /** Resolves when the process has ended; never rejects. A command that cannot be started ends with code 127. */
  readonly ended: Promise<ExitStatus>;
  #exit: ExitStatus | undefined;

  /**
   * Starts a command in a session of its own (a Ctrl-C in the terminal is ours alone to handle) that the kernel kills when
   * this process dies.
   */
  constructor(command: readonly string[], options: ChildOptions) {
    const spawnOptions: SpawnOptions = {
      detached: true,
      stdio: ["ignore", "pipe", "pipe", ...(options.channel ? ["ipc" as const] : [])],
      ...(options.env === undefined ? {} : { env: options.env }),
    };
    this.process = spawn("setpriv", ["--pdeathsig", "KILL", ...command], spawnOptions);
    this.process.stdout?.on("data", (chunk: Buffer) => options.log.write(chunk));
    this.process.stderr?.on("data", (chunk: Buffer) => options.log.write(chunk));
    this.ended = new Promise((resolve) => {
      const end = (status: ExitStatus) => {
        this.#exit ??= status;
        resolve(this.#exit);
      };
      this.process.on("error", (error) => {
        // Also reported for a message that could not be sent; only a failed start leaves no pid.
        options.log.note(`error: ${error.message}`);
        if (this.process.pid === undefined) end({ code: 127, signal: null });
      });
      this.process.on("exit", (code, signal) => end({ code, signal }));
    });
  }

  get exited(): ExitStatus | undefined {
    return this.#exit;
  }

  get pid(): number | undefined {
    return this.process.pid;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.#exit === undefined) this.process.kill(signal);
  }

  /** SIGTERM to `target` (default: the process), SIGKILL to all after `graceMs`; resolves when the process has ended. */
  async stop(graceMs: number, target = this.process.pid): Promise<void> {
    if (this.#exit !== undefined || this.process.pid === undefined) return;
    if (graceMs > 0 && target !== undefined) {
      sendSignal(target, "SIGTERM");
      await within(graceMs, this.ended);
    }
    if (this.#exit !== undefined) return;
    if (target !== undefined) sendSignal(target, "SIGKILL");
    this.process.kill("SIGKILL");
    await within(KILL_WAIT_MS, this.ended);
  }
}

export function describeExit(status: ExitStatus): string {
  return status.signal === null ? `exit code ${status.code}` : `signal ${status.signal}`;
}

/** The only child of a process, which `unshare --fork` has. Undefined while there is none. */
export function onlyChildOf(pid: number): number | undefined {
  try {
    const first = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")[0];
    return first ? Number(first) : undefined;
  } catch {
    // The process is gone.
    return undefined;
  }
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended in the meantime.
  }
}

/** Resolves with the promise or after `ms`, whichever is first. */
function within(ms: number, promise: Promise<unknown>): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    void promise.then(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
