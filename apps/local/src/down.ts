import { setTimeout as sleep } from "node:timers/promises";
import type { DownConfig } from "./config.ts";
import { claim, meshNames, ownerOf, release } from "./run-folder.ts";
import { removeStateFolder, stateFolder } from "./state-folder.ts";
import type { Progress } from "./ui/progress.ts";
import { UserError } from "./user-error.ts";

/** Taking pods down takes a few seconds; their grace period is over by then. */
const TIMEOUT_MS = 60_000;
const POLL_MS = 50;

/** Ends a mesh that runs, in an orderly way. Throws UserError when there is none, or it does not end. */
export async function endLocalMesh({ name, purge }: DownConfig, progress: Progress): Promise<void> {
  if (process.getuid?.() !== 0) throw new UserError("the local mesh belongs to root: run it with sudo");
  const names = meshNames(name);
  const owner = ownerOf(names);
  if (owner !== undefined) {
    const step = progress.step(`ending the local mesh ${name}`);
    process.kill(owner, "SIGTERM");
    const deadline = performance.now() + TIMEOUT_MS;
    while (ownerOf(names) === owner) {
      if (performance.now() > deadline)
        throw new UserError(
          `process ${owner} has not ended within ${TIMEOUT_MS / 1000} s: kill -9 ${owner}, then tulle down`,
        );
      await sleep(POLL_MS);
    }
    step.done();
  }
  // What one that died has left; nobody may start meanwhile.
  const { owner: other } = await claim(names);
  if (other !== undefined) {
    throw new UserError(
      `another local mesh ${name} has been started: process ${other}`,
      `to end that one as well: tulle down --name ${name}`,
    );
  }
  let removed = false;
  try {
    if (purge) removed = removeStateFolder(stateFolder(name));
  } finally {
    release(names);
  }
  if (removed) progress.note(`✓ its objects, keys and addresses are gone`);
  if (owner === undefined && !removed) throw new UserError(`no local mesh ${name} runs: start one with tulle up`);
}
