import { readdir, readFile, stat } from "node:fs/promises";
import type { ReadFamily } from "./exposition.ts";

/** What the kernel knows of this process and its data threads, under the names that ztunnel gives such figures. */

export interface ThreadReference {
  readonly thread: number;
  /** The kernel's id; 0: not known yet. */
  readonly task: number;
}

/**
 * `tokio_worker_total_busy_duration_seconds` is a data thread's time on a processor, `…_park_count` how often it went to
 * sleep, `…_park_unpark_count` both directions. The other tokio figures have no equivalent here and are left out.
 * Figures that the kernel does not tell are left out as well.
 */
export async function processFamilies(threads: readonly ThreadReference[]): Promise<readonly ReadFamily[]> {
  const [open, max, ...usages] = await Promise.all([
    openDescriptors(),
    descriptorLimit(),
    ...threads.map(({ task }) => threadUsage(task)),
  ]);
  const perThread = (pick: (usage: ThreadUsage) => number | undefined) =>
    threads.flatMap(({ thread }, i) => {
      const usage = usages[i];
      const value = usage === undefined ? undefined : pick(usage);
      return value === undefined ? [] : [{ labels: { worker: String(thread) }, value }];
    });
  return [
    gauge("process_open_fds", "Number of open file descriptors", open),
    gauge("process_max_fds", "Maximum number of file descriptors", max),
    gauge("tokio_num_workers", "the number of worker threads used by the runtime", threads.length),
    {
      name: "tokio_worker_total_busy_duration_seconds",
      help: "the amount of time worker threads have been busy",
      type: "counter",
      samples: perThread((usage) => usage.busySeconds),
    },
    {
      name: "tokio_worker_park_count",
      help: "the total number of times the given worker thread has parked",
      type: "counter",
      samples: perThread((usage) => usage.sleeps),
    },
    {
      name: "tokio_worker_park_unpark_count",
      help: "the total number of times the given worker thread has parked and unparked",
      type: "counter",
      samples: perThread((usage) => (usage.sleeps === undefined ? undefined : 2 * usage.sleeps)),
    },
  ];
}

export interface ThreadUsage {
  readonly busySeconds: number | undefined;
  readonly sleeps: number | undefined;
}

/** A thread of this process by its kernel id; empty when the kernel does not tell. */
export async function threadUsage(task: number): Promise<ThreadUsage> {
  if (task === 0) return { busySeconds: undefined, sleeps: undefined };
  const [schedule, status] = await Promise.all([
    readText(`/proc/self/task/${task}/schedstat`),
    readText(`/proc/self/task/${task}/status`),
  ]);
  // proc(5): the first number of schedstat is nanoseconds on a processor.
  const onCpu = Number(schedule?.split(" ", 1)[0] ?? Number.NaN);
  const sleeps = /^voluntary_ctxt_switches:\s*(\d+)/m.exec(status ?? "")?.[1];
  return {
    busySeconds: Number.isNaN(onCpu) ? undefined : onCpu / 1e9,
    sleeps: sleeps === undefined ? undefined : Number(sleeps),
  };
}

async function openDescriptors(): Promise<number | undefined> {
  try {
    // Since Linux 6.2 the size of this directory is the number of descriptors; counting 100,000 names is dear.
    const { size } = await stat("/proc/self/fd");
    return size > 0 ? size : (await readdir("/proc/self/fd")).length;
  } catch {
    return undefined;
  }
}

async function descriptorLimit(): Promise<number | undefined> {
  const limit = /^Max open files\s+(\d+)/m.exec((await readText("/proc/self/limits")) ?? "")?.[1];
  return limit === undefined ? undefined : Number(limit);
}

/** undefined: there is no such file, e.g. because the thread has just ended. */
async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return undefined;
  }
}

function gauge(name: string, help: string, value: number | undefined): ReadFamily {
  return { name, help, type: "gauge", samples: value === undefined ? [] : [{ value }] };
}
