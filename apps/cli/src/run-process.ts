import { spawn } from "node:child_process";
import { getCompileCacheDir } from "node:module";
import { constants } from "node:os";
import { dirname } from "node:path";

/** Signals that end a mesh in an orderly way. */
const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** What a shell reports for a process that a signal ended: 128 + its number. */
const SIGNAL_EXIT_BASE = 128;

/**
 * Runs a program of ours in the foreground and answers with its exit code. A Ctrl-C at the terminal reaches both processes:
 * this one waits for the other, which has to tidy up. A signal that only this one got is passed on. The channel tells the
 * other when this process is gone, however it ended.
 */
export function runProcess(program: string, args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, [program, ...args], {
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...process.env, ...compileCache() },
  });
  const forward = FORWARDED.map((signal) => [signal, () => void child.kill(signal)] as const);
  for (const [signal, handler] of forward) process.on(signal, handler);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      for (const [name, handler] of forward) process.off(name, handler);
      resolve(code ?? SIGNAL_EXIT_BASE + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}

/** The other part, and those that it starts, find their compiled modules where this one does. */
function compileCache(): NodeJS.ProcessEnv {
  // Of this version of Node; the variable names the folder of all versions.
  const folder = getCompileCacheDir();
  return folder === undefined ? {} : { NODE_COMPILE_CACHE: dirname(folder) };
}
