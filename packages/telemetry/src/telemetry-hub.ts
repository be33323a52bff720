import type { Log, LogFields, LogLevel } from "@tulle/base";
import { exposition } from "./exposition.ts";
import { createLogControl, writeLogControl } from "./log-control.ts";
import type { LogFilter } from "./log-filter.ts";
import { formatLine, type LogFormat, SCOPE_ROOT, Timestamps } from "./log-line.ts";
import { LogWriter } from "./log-writer.ts";
import { MainMetrics } from "./main-metrics.ts";
import { processFamilies } from "./process-metrics.ts";
import { RingConsumer } from "./record-ring.ts";
import { SeriesReader } from "./series-reader.ts";
import { createThreadTelemetry, type ThreadTelemetry, VITAL_TASK, VITAL_TURNS } from "./thread-telemetry.ts";

export interface TelemetryHubOptions {
  readonly format: LogFormat;
  readonly filter: LogFilter;
  /** Default: to standard output. */
  readonly writer?: LogWriter;
  /** Milliseconds since the epoch. */
  readonly wall?: () => number;
}

/** After something came in: lines of a burst are written together, and a silent process is not woken at all. */
const BATCH_MS = 20;
/** How long the end waits for a reader of the log that has stalled. */
const CLOSE_MS = 1000;
/** Between two lines that tell of dropped lines. */
const DROP_NOTICE_MS = 10_000;

/** The main thread's side: its own log and counters, and those of every data thread. */
export class TelemetryHub {
  readonly log: Log;
  readonly metrics: MainMetrics = new MainMetrics();
  readonly #options: TelemetryHubOptions;
  readonly #writer: LogWriter;
  readonly #control: SharedArrayBuffer;
  readonly #reader = new SeriesReader();
  readonly #threads: { readonly memory: ThreadTelemetry; readonly ring: RingConsumer }[] = [];
  readonly #timestamps = new Timestamps();
  #filter: LogFilter;
  #closed = false;
  #noticedAt = Number.NEGATIVE_INFINITY;
  #noticed = 0;

  constructor(options: TelemetryHubOptions) {
    this.#options = options;
    this.#filter = options.filter;
    this.#writer = options.writer ?? new LogWriter();
    this.#control = createLogControl(options.filter);
    this.#reader.addTable(this.metrics.memory);
    this.log = this.#scope(SCOPE_ROOT);
  }

  /** The filter in force. */
  get filter(): LogFilter {
    return this.#filter;
  }

  /** Applies to every thread from its next line on. Throws RangeError when the filter's text is over 4 KiB. */
  setFilter(filter: LogFilter): void {
    writeLogControl(this.#control, filter);
    this.#filter = filter;
  }

  /** Makes the memory that a new data thread shares with this one, and follows it from now on. */
  addThread(): ThreadTelemetry {
    const memory = createThreadTelemetry({
      thread: this.#threads.length,
      format: this.#options.format,
      control: this.#control,
    });
    const ring = new RingConsumer(memory.ring);
    this.#threads.push({ memory, ring });
    this.#reader.addTable(memory.series);
    void this.#follow(ring);
    return memory;
  }

  /** How often each data thread's loop has turned. */
  turns(): readonly number[] {
    return this.#threads.map(({ memory }) => Atomics.load(new Int32Array(memory.vitals), VITAL_TURNS));
  }

  /** The metrics text in pieces (see `exposition`). */
  async metricsText(): Promise<Iterable<string>> {
    const threads = this.#threads.map(({ memory }) => ({
      thread: memory.thread,
      task: Atomics.load(new Int32Array(memory.vitals), VITAL_TASK),
    }));
    this.metrics.logLinesDropped("main", this.#writer.dropped);
    const overflowed = this.#reader.overflowed();
    this.#threads.forEach(({ memory, ring }, i) => {
      this.metrics.logLinesDropped(String(memory.thread), ring.dropped.ordinary + ring.dropped.important);
      // Table 0 is the main thread's own.
      this.metrics.seriesOverflowed(String(memory.thread), overflowed[i + 1] ?? 0);
    });
    return exposition(this.#reader, await processFamilies(threads));
  }

  /**
   * Takes what the threads have written and waits until it is out, or a second has passed. Call when the data threads
   * have ended.
   */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { ring } of this.#threads) ring.wake();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((done) => {
      timer = setTimeout(() => done("late"), CLOSE_MS);
    });
    for (;;) {
      for (const { ring } of this.#threads) this.#drain(ring);
      const outcome = await Promise.race([this.#writer.flush(), late]);
      if (outcome === "late" || this.#threads.every(({ ring }) => ring.empty)) break;
    }
    clearTimeout(timer);
  }

  /** For an end that cannot wait. */
  closeSync(): void {
    this.#closed = true;
    for (const { ring } of this.#threads) this.#drain(ring);
    this.#writer.flushSync();
  }

  async #follow(ring: RingConsumer): Promise<void> {
    for (;;) {
      await ring.wait();
      if (this.#closed) return;
      await new Promise((done) => setTimeout(done, BATCH_MS));
      if (this.#closed) return;
      this.#drain(ring);
      this.#noticeDrops();
      // What did not fit waits in the ring; when that is full too, the thread drops lines and counts them.
      if (!ring.empty) await this.#writer.room();
    }
  }

  #drain(ring: RingConsumer): void {
    ring.drain((_kind, bytes, start, end) => this.#writer.offer(bytes, start, end, false));
  }

  #noticeDrops(): void {
    const dropped = this.#threads.reduce(
      (sum, { ring }) => sum + ring.dropped.ordinary + ring.dropped.important,
      this.#writer.dropped,
    );
    const now = performance.now();
    if (dropped === this.#noticed || now - this.#noticedAt < DROP_NOTICE_MS) return;
    this.log.warn("log lines were dropped, because they came faster than they could be written", {
      lines: dropped - this.#noticed,
    });
    this.#noticed = dropped;
    this.#noticedAt = now;
  }

  #write(level: LogLevel, scope: string, message: string, fields: LogFields | undefined): void {
    if (!this.#filter.enabled(level, scope)) return;
    const time = this.#timestamps.format(this.#options.wall?.() ?? performance.timeOrigin + performance.now());
    const important = level === "warn" || level === "error";
    this.#writer.line(formatLine(this.#options.format, time, level, scope, message, fields), important);
  }

  #scope(scope: string): Log {
    return {
      debug: (message, fields) => this.#write("debug", scope, message, fields),
      info: (message, fields) => this.#write("info", scope, message, fields),
      warn: (message, fields) => this.#write("warn", scope, message, fields),
      error: (message, fields) => this.#write("error", scope, message, fields),
      scope: (name) => this.#scope(`${scope}::${name}`),
    };
  }
}
