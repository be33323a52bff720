import { lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { startTime } from "./cluster-space.ts";
import { clustersRoot } from "./settings.ts";

/**
 * Makes the folder of all clusters' folders. Throws when somebody else could write there: it lies in a folder of everybody,
 * and programs in it are run as root.
 */
export function makeClustersRoot(): void {
  const root = clustersRoot();
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const found = lstatSync(root);
  if (!found.isDirectory() || found.uid !== process.geteuid?.() || (found.mode & 0o022) !== 0) {
    throw new Error(`${root} is not a folder of this user alone: remove it, or set TULLE_CLUSTER_ROOT`);
  }
}

/** Runs `work` while no other process does so with the same cluster; throws when one does. A dead one's lock is void. */
export async function withLock<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const file = `${folder}.lock`;
  if (!tryLock(file)) {
    const [pid = "", start = ""] = readFileSync(file, "utf8").split(" ");
    if (startTime(Number(pid)) === start) throw new Error(`process ${pid} works on this cluster: wait for it`);
    rmSync(file, { force: true });
    if (!tryLock(file)) throw new Error(`another process has begun to work on this cluster: wait for it`);
  }
  try {
    return await work();
  } finally {
    rmSync(file, { force: true });
  }
}

function tryLock(file: string): boolean {
  try {
    writeFileSync(file, `${process.pid} ${startTime(process.pid)}`, { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return false;
  }
}
