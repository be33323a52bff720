import { ExitCode, run, type StricliProcess } from "@stricli/core";
import { app } from "./app.ts";
import { FAILED, USAGE_ERROR } from "./command.ts";
import type { CliContext } from "./context.ts";

/** The program itself. What only some commands need is loaded by them. */
const CONTEXT: CliContext = {
  process: process as StricliProcess,
  runProcess: async (program, args) => (await import("./run-process.ts")).runProcess(program, args),
  connect: async (options) => {
    const { kubeconfig, context } = options;
    if (process.env["TULLE_STORE"] === "directory" && kubeconfig === undefined && context === undefined) {
      return (await import("./kube/directory-cluster.ts")).openDirectoryCluster(process.env);
    }
    return (await import("./kube/connect.ts")).connect(options, process.env);
  },
  ask: async (question) => {
    if (!process.stdin.isTTY) return undefined;
    const { createInterface } = await import("node:readline/promises");
    const terminal = createInterface({ input: process.stdin, output: process.stderr });
    try {
      return await terminal.question(question);
    } finally {
      terminal.close();
    }
  },
  readText: async (path) => (await import("./read-text.ts")).readText(path, process.stdin),
};

/** What shells report of a program that a closed pipe has ended: 128 + SIGPIPE. */
const CLOSED_PIPE = 141;
/** Exit codes of the parser for what the user has typed: no such command, no such flag or value. Its others are faults. */
const NOT_UNDERSTOOD: ReadonlySet<unknown> = new Set([ExitCode.UnknownCommand, ExitCode.InvalidArgument]);

/** Runs the command that `args` are, and sets the exit code of this process. */
export async function main(args: readonly string[]): Promise<void> {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // `tulle get pods | head` has read enough.
    if (error.code !== "EPIPE") throw error;
    process.exit(CLOSED_PIPE);
  });
  await run(app, args, CONTEXT);
  // The parser's own codes are negative; shells know no such thing.
  if (typeof process.exitCode !== "number" || process.exitCode >= 0) return;
  const usage = NOT_UNDERSTOOD.has(process.exitCode);
  process.exitCode = usage ? USAGE_ERROR : FAILED;
  const next = usage
    ? "see what there is: tulle --help, or tulle COMMAND --help"
    : "this is a fault of tulle: please report it with the lines above";
  process.stderr.write(`  next: ${next}\n`);
}
