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

/** What the program sees of its surroundings. Default: no terminal, nothing in the environment. */
export interface Surroundings {
  readonly isTTY?: boolean;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs `tulle ARGS…` in this process; nobody is at the terminal unless `overrides` says so. */
export async function tulle(
  args: readonly string[],
  overrides: Partial<CliContext> = {},
  { isTTY = false, env = {} }: Surroundings = {},
): Promise<Outcome> {
  let out = "";
  let error = "";
  const started: string[][] = [];
  const context: CliContext = {
    process: {
      stdout: terminal(isTTY, (text) => (out += text)),
      stderr: terminal(isTTY, (text) => (error += text)),
      env,
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

function terminal(isTTY: boolean, write: (text: string) => void) {
  return { isTTY, write, getColorDepth: () => 1 };
}
