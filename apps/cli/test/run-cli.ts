import { run } from "@stricli/core";
import { app } from "../src/app.ts";
import type { CliContext } from "../src/context.ts";

export interface Outcome {
  readonly out: string;
  readonly error: string;
  readonly exitCode: number | string | null | undefined;
  /** Programs of ours that were started, with their arguments. */
  readonly started: readonly (readonly string[])[];
}

/** Runs `tulle ARGS…` in this process; nobody is at the terminal unless `overrides` says so. */
export async function tulle(args: readonly string[], overrides: Partial<CliContext> = {}): Promise<Outcome> {
  let out = "";
  let error = "";
  const started: string[][] = [];
  const context: CliContext = {
    process: {
      stdout: { write: (text) => void (out += text) },
      stderr: { write: (text) => void (error += text) },
      env: {},
    },
    runProcess: (program, rest) => {
      started.push([program.split("/apps/")[1] ?? program, ...rest]);
      return Promise.resolve(0);
    },
    connect: () => Promise.reject(new Error("no cluster in this test")),
    ask: () => Promise.resolve(undefined),
    readText: (path) => Promise.reject(new Error(`no file ${path} in this test`)),
    ...overrides,
  };
  await run(app, args, context);
  return { out, error, exitCode: context.process.exitCode, started };
}
