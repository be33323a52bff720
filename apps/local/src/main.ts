import { messageOf } from "@tulle/base";
import { parseConfig, USAGE } from "./config.ts";
import { endLocalMesh } from "./down.ts";
import { failureText } from "./ui/failure.ts";
import { terminalProgress } from "./ui/progress.ts";
import { UserError } from "./user-error.ts";
import { runLocalMesh } from "./wire.ts";

/**
 * Runs a mesh on this machine until SIGINT, SIGTERM or SIGHUP, or ends one that runs (`down`). Exit code 1: it could not;
 * 2: wrong arguments.
 */

const args = process.argv.slice(2);
if (args.includes("--help") || args.includes("-h")) {
  console.log(USAGE);
} else {
  // Nothing that is left may keep a mesh alive that has been taken down.
  process.exit(await main(args));
}

async function main(argv: readonly string[]): Promise<number> {
  const progress = terminalProgress(process.stderr);
  let config: ReturnType<typeof parseConfig>;
  try {
    config = parseConfig(argv, process.cwd());
  } catch (error) {
    progress.fail(
      failureText(new UserError(messageOf(error), "see how it is used: tulle up --help, tulle down --help")),
    );
    return 2;
  }
  const end = new AbortController();
  let failure: unknown;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => end.abort());
  // Started by another program that is gone now: nobody is left to end this one.
  process.on("disconnect", () => end.abort());
  process.channel?.unref();
  // Whatever goes wrong, the machine is left clean: the mesh is taken down and then the fault is reported.
  for (const event of ["uncaughtException", "unhandledRejection"]) {
    process.on(event, (error: unknown) => {
      failure ??= error;
      end.abort();
    });
  }
  try {
    if (config.command === "down") await endLocalMesh(config, progress);
    else await runLocalMesh(config, progress, end.signal);
  } catch (error) {
    failure ??= error;
  }
  if (failure === undefined) return 0;
  progress.fail(failureText(failure));
  return 1;
}
