import type { Log, LogFields, LogLevel } from "@tulle/base";
import { formatLine, type LogFormat, LogWriter, Timestamps } from "@tulle/telemetry";

const ORDER: readonly LogLevel[] = ["trace", "debug", "info", "warn", "error"];

/** The process' log, on standard output. Close it last. */
export class ProcessLog implements Log {
  readonly #writer: LogWriter;
  readonly #format: LogFormat;
  readonly #from: number;
  readonly #scope: string;
  readonly #times: Timestamps;

  constructor(
    options: { readonly level: LogLevel; readonly format: LogFormat; readonly scope?: string },
    of?: ProcessLog,
  ) {
    this.#format = options.format;
    this.#from = ORDER.indexOf(options.level);
    this.#scope = options.scope ?? "agent";
    this.#writer = of === undefined ? new LogWriter() : of.#writer;
    this.#times = of === undefined ? new Timestamps() : of.#times;
  }

  debug(message: string, fields?: LogFields): void {
    this.#write("debug", message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#write("info", message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#write("warn", message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#write("error", message, fields);
  }

  scope(name: string): Log {
    return new ProcessLog({ level: ORDER[this.#from] ?? "info", format: this.#format, scope: name }, this);
  }

  /** What has not been written yet is written. */
  closeSync(): void {
    this.#writer.flushSync();
  }

  #write(level: LogLevel, message: string, fields: LogFields | undefined): void {
    if (ORDER.indexOf(level) < this.#from) return;
    const time = this.#times.format(Date.now());
    this.#writer.line(formatLine(this.#format, time, level, this.#scope, message, fields), level === "error");
  }
}
