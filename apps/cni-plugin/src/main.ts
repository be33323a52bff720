import { readSync, writeSync } from "node:fs";
import { runCommand } from "./command.ts";

/** The chained CNI plugin of type istio-cni: called by the container runtime for every pod sandbox of the node. */

/** A list of plugins with its results has a few kilobytes. */
const MAX_INPUT_BYTES = 1024 * 1024;
/** A runtime that gave the plugin a non-blocking pipe writes soon after. */
const INPUT_TIMEOUT_MS = 5000;
const INPUT_PAUSE_MS = 2;

void main();

async function main(): Promise<void> {
  const { output, exitCode } = await runCommand({ environment: process.env, input: readInput() });
  writeAll(output);
  // Not a normal end: nothing is left to do, and Node's takes milliseconds for which a pod waits.
  process.exit(exitCode);
}

/** Standard input to its end; what goes beyond the limit or comes too late is missing, and then it is no JSON. */
function readInput(): string {
  const buffer = Buffer.alloc(MAX_INPUT_BYTES);
  const deadline = Date.now() + INPUT_TIMEOUT_MS;
  let length = 0;
  while (length < buffer.length) {
    try {
      const read = readSync(0, buffer, length, buffer.length - length, null);
      if (read === 0) break;
      length += read;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN" || Date.now() > deadline) break;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, INPUT_PAUSE_MS);
    }
  }
  return buffer.toString("utf8", 0, length);
}

function writeAll(text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at);
}
