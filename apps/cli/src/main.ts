import { run, type StricliProcess } from "@stricli/core";
import { app } from "./app.ts";
import { runProcess } from "./run-process.ts";

/** The command `tulle`. */
await run(app, process.argv.slice(2), { process: process as StricliProcess, runProcess });
