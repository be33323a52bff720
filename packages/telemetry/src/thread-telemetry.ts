import { createLogControl } from "./log-control.ts";
import type { LogFilter } from "./log-filter.ts";
import type { LogFormat } from "./log-line.ts";
import { createRing, type RingOptions } from "./record-ring.ts";
import { createSeriesMemory, type SeriesTableOptions } from "./series-table.ts";

/** What one data thread and the main thread share; made by main, handed over in workerData. */
export interface ThreadTelemetry {
  readonly thread: number;
  readonly ring: SharedArrayBuffer;
  readonly series: SharedArrayBuffer;
  /** The log filter, the same memory for all threads. */
  readonly control: SharedArrayBuffer;
  readonly format: LogFormat;
  /** Words: the kernel's id of the thread (once it runs), and how often its loop has turned. */
  readonly vitals: SharedArrayBuffer;
}

export interface ThreadTelemetryOptions {
  readonly thread: number;
  readonly format: LogFormat;
  /** Either the memory that all threads share, or a filter to make one from. */
  readonly control: SharedArrayBuffer | LogFilter;
  readonly ring?: RingOptions;
  readonly series?: SeriesTableOptions;
}

export const VITAL_TASK = 0;
export const VITAL_TURNS = 1;

/** Kinds of records in the ring. */
export const RECORD_LINE = 1;

export function createThreadTelemetry(options: ThreadTelemetryOptions): ThreadTelemetry {
  const { thread, format, control } = options;
  return {
    thread,
    format,
    ring: createRing(options.ring),
    series: createSeriesMemory(options.series),
    control: control instanceof SharedArrayBuffer ? control : createLogControl(control),
    vitals: new SharedArrayBuffer(8),
  };
}
