import { execFile } from "node:child_process";
import { MeshError } from "@tulle/base";
import { NetNamespace } from "../net-namespace.ts";

export interface CommandOptions {
  /** Path of a network namespace (`/run/netns/x`) to run in. Default: the caller's. */
  readonly namespace?: string;
  /** Given on standard input, which is then closed. */
  readonly input?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** The command is killed after this time. Default 10 s. */
  readonly timeoutMs?: number;
}

/** `code` is COMMAND_FAILED. The message holds the command, how it ended and what it wrote to standard error. */
export class CommandError extends MeshError {
  /** Undefined when it did not start or was killed. */
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;

  constructor(
    command: string,
    how: string,
    output: { readonly stdout: string; readonly stderr: string },
    exitCode: number | undefined,
  ) {
    const complaint = output.stderr.trim();
    super(`${command}: ${how}${complaint === "" ? "" : `: ${complaint}`}`, {
      code: "COMMAND_FAILED",
      side: "internal",
    });
    this.exitCode = exitCode;
    this.stdout = output.stdout;
    this.stderr = output.stderr;
  }
}

/** Set-up tools (ip, nft, ss) answer in milliseconds; one that does not is stuck. */
const DEFAULT_TIMEOUT_MS = 10_000;
/** More output than this is no answer to a set-up command. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** Runs a command and returns its standard output. Throws CommandError unless it exits with 0. */
export function run(program: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { namespace, input, environment, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const command = [program, ...args].join(" ");
  return new Promise((resolve, reject) => {
    const start = () =>
      execFile(
        program,
        args,
        {
          timeout: timeoutMs,
          killSignal: "SIGKILL",
          maxBuffer: MAX_OUTPUT_BYTES,
          env: { ...process.env, ...environment },
        },
        (error, stdout, stderr) => {
          if (error === null) return resolve(stdout);
          const exitCode = typeof error.code === "number" ? error.code : undefined;
          const how =
            exitCode !== undefined
              ? `exit code ${exitCode}`
              : error.killed
                ? `killed after ${timeoutMs} ms`
                : error.message;
          reject(new CommandError(command, how, { stdout, stderr }, exitCode));
        },
      );
    const child = namespace === undefined ? start() : startedIn(namespace, start);
    // A child that ends before it has read everything tells so by its exit code.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input ?? "");
  });
}

/** A child inherits the network namespace of the thread that forks it, which is this one; no other program is needed. */
function startedIn<T>(namespace: string, start: () => T): T {
  using opened = NetNamespace.open(namespace);
  return opened.enter(start);
}

/** The words that run a program in a namespace; the process keeps its pid, because nsenter executes the program. */
export function inNamespace(namespace: string | undefined, program: string, args: readonly string[]): string[] {
  return namespace === undefined ? [program, ...args] : ["nsenter", `--net=${namespace}`, "--", program, ...args];
}
