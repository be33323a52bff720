import type { Log, LogFields, LogLevel } from "@tulle/base";
import { formatLine, type LogFilter, type LogFormat, LogWriter, Timestamps } from "@tulle/telemetry";

export interface ProcessLog {
  readonly log: Log;
  filter: LogFilter;
  /** For the end of the process. */
  closeSync(): void;
}

const ROOT = "control-plane";

/** The log of this process, to standard output; nobody waits for its reader. */
export function createLog(options: { readonly format: LogFormat; readonly filter: LogFilter }): ProcessLog {
  const writer = new LogWriter();
  const timestamps = new Timestamps();
  const write = (level: LogLevel, scope: string, message: string, fields: LogFields | undefined) => {
    if (!made.filter.enabled(level, scope)) return;
    const time = timestamps.format(Date.now());
    const important = level === "warn" || level === "error";
    writer.line(formatLine(options.format, time, level, scope, message, fields), important);
  };
  const scoped = (scope: string): Log => ({
    debug: (message, fields) => write("debug", scope, message, fields),
    info: (message, fields) => write("info", scope, message, fields),
    warn: (message, fields) => write("warn", scope, message, fields),
    error: (message, fields) => write("error", scope, message, fields),
    scope: (name) => scoped(scope === ROOT ? name : `${scope}::${name}`),
  });
  const made: ProcessLog = { log: scoped(ROOT), filter: options.filter, closeSync: () => writer.flushSync() };
  return made;
}
