import { LogFilter } from "@tulle/telemetry";

/** `/logging`: shows and changes what is logged while the process runs (spec: l4-ztunnel §9.1). */

export interface LogFilterHolder {
  readonly filter: LogFilter;
  setFilter(filter: LogFilter): void;
}

export interface LoggingAnswer {
  readonly status: number;
  readonly text: string;
}

const HELP = `usage: POST /logging                        (show the current levels)
       POST /logging?level=<level>          (change the level of everything that has none of its own)
       POST /logging?level=<scope>=<level>,<scope>=<level>   (change single scopes; <scope>:<level> works too)
       POST /logging?reset                  (back to what it was at the start)

level: off, error, warn, info, debug or trace
scope: for instance access (the access log), dns, xds, ca
`;

/** `initial`: what `reset` goes back to. */
export function handleLogging(
  method: string | undefined,
  query: URLSearchParams,
  logs: LogFilterHolder,
  initial: LogFilter = LogFilter.default,
): LoggingAnswer {
  if (method !== "POST") return { status: 405, text: `Invalid HTTP method\n${HELP}` };
  const level = query.get("level") ?? "";
  const reset = query.has("reset");
  if (level === "" && !reset) return current(logs);
  const base = reset ? initial : logs.filter;
  const changed = level === "" ? base : base.with(level);
  if (!(changed instanceof LogFilter)) {
    return { status: 400, text: `Invalid level provided: ${printable(changed.invalid)}\n${HELP}` };
  }
  try {
    logs.setFilter(changed);
  } catch {
    return { status: 400, text: `Invalid level provided: too many scopes\n${HELP}` };
  }
  return current(logs);
}

function current(logs: LogFilterHolder): LoggingAnswer {
  return { status: 200, text: `current log level is ${logs.filter.toString()}\n` };
}

function printable(text: string): string {
  return text.slice(0, 200).replaceAll(/[^ -~]/g, "?");
}
