import { readFileSync } from "node:fs";

/** CPU time and memory of processes, from /proc (proc_pid_stat(5), proc_pid_status(5)). */

/** USER_HZ is 100 on every architecture that Linux runs on today. */
const TICKS_PER_SECOND = 100;
/** utime and stime are fields 14 and 15; the fields are counted behind the name's parenthesis, the second. */
const UTIME_AFTER_NAME = 14 - 3;

/** User and system time so far of all threads of all these processes, in seconds. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[UTIME_AFTER_NAME]) + Number(fields[UTIME_AFTER_NAME + 1]);
  }
  return ticks / TICKS_PER_SECOND;
}

/** Resident memory of one process in MB (10^6 bytes). */
export function residentMegabytes(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  if (match === null) throw new Error(`process ${pid} has no VmRSS: has it ended?`);
  return (Number(match[1]) * 1024) / 1e6;
}
