import { readdirSync, readFileSync } from "node:fs";
import { run } from "./command.ts";

/**
 * Namespaces say in their name who made them: `tulle-lab-<pid>-<start>-<serial>-<name>`, with the start time of the
 * process, so that a number used again is no owner. What a crashed owner left behind can be told from what is in use.
 */
const PREFIX = "tulle-lab";
const NAME = /^tulle-lab-(\d+)-(\d+)-\d+-/;
const NETNS_FOLDER = "/run/netns";
/** starttime is field 22 of /proc/PID/stat (proc_pid_stat(5)); the fields are counted behind the name's parenthesis, the second. */
const START_TIME_AFTER_NAME = 22 - 3;

const own = { pid: process.pid, start: processStartTime(process.pid) ?? "0" };
let serial = 0;

/** A name that no other namespace has. `label` tells a person what it is. */
export function namespaceName(label: string): string {
  return `${PREFIX}-${own.pid}-${own.start}-${serial++}-${label}`;
}

export function namespacePath(name: string): string {
  return `${NETNS_FOLDER}/${name}`;
}

/** Removes the namespaces of labs whose process is gone, with what still runs in them. Returns their names. */
export async function removeLeftovers(): Promise<string[]> {
  const names = leftovers();
  for (const name of names) {
    try {
      await killProcesses(name);
      await run("ip", ["netns", "delete", name]);
    } catch (error) {
      // Another lab may be removing it at the same time.
      if (leftovers().includes(name)) throw error;
    }
  }
  return names;
}

/** Namespaces of labs whose process is gone. */
export function leftovers(): string[] {
  return namespaceNames().filter((name) => {
    const [, pid, start] = NAME.exec(name) ?? [];
    return pid !== undefined && processStartTime(Number(pid)) !== start;
  });
}

/** Ends what runs in a namespace, by SIGKILL. */
export async function killProcesses(name: string): Promise<void> {
  const pids = (await run("ip", ["netns", "pids", name])).split("\n").filter((line) => line !== "");
  for (const pid of pids) {
    // The lab's own process is never in a namespace for longer than a system call.
    if (Number(pid) === process.pid) continue;
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}

function namespaceNames(): string[] {
  try {
    return readdirSync(NETNS_FOLDER);
  } catch (error) {
    // The folder comes with the first namespace that `ip` makes.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

/** When a process began, in clock ticks since boot: tells it from a later one with the same number. Undefined when there is no such process. */
export function processStartTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[START_TIME_AFTER_NAME];
  } catch {
    // ENOENT, or ESRCH when it ends while it is read: gone either way.
    return undefined;
  }
}
