#!/usr/bin/env node
import { readFile } from "node:fs/promises";
import { run, type StricliProcess } from "@stricli/core";
import { app } from "./app.ts";
import { USAGE_ERROR } from "./command.ts";
import type { CliContext } from "./context.ts";
import { runProcess } from "./run-process.ts";

/** The command `tulle`. What only some commands need is loaded by them. */
const context: CliContext = {
  process: process as StricliProcess,
  runProcess,
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
  readText: async (path) => {
    if (path !== "-") return readFile(path, "utf8");
    const { text } = await import("node:stream/consumers");
    return text(process.stdin);
  },
};

await run(app, process.argv.slice(2), context);
// The parser's own codes are negative; shells know no such thing.
if (typeof process.exitCode === "number" && process.exitCode < 0) {
  process.stderr.write("  next: see what there is: tulle --help, or tulle COMMAND --help\n");
  process.exitCode = USAGE_ERROR;
}
