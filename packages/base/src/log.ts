export type LogLevel = "trace" | "debug" | "info" | "warn" | "error";

/** Field values are printed bare when they are numbers, quoted when they are strings. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/** Where a part writes what an operator should read. Implementations never throw and never block a data thread. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** The same log under a narrower scope, e.g. `xds`. */
  scope(name: string): Log;
}

export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  scope: () => silentLog,
};
