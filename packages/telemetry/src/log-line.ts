import type { LogFields, LogLevel } from "@tulle/base";

/** Log lines as ztunnel writes them (spec: l4-ztunnel §9.5), plain and JSON. */

export type LogFormat = "plain" | "json";

/** Our scopes live below this one; plain lines leave the prefix out, as ztunnel does. */
export const SCOPE_ROOT = "ztunnel";
const SCOPE_PREFIX = `${SCOPE_ROOT}::`;

/** Formats times in one pass; keeps the text of the current second. One per thread. */
export class Timestamps {
  #second = Number.NaN;
  #text = "";

  /** RFC 3339 in UTC with microseconds, of milliseconds since the epoch (fractions allowed). */
  format(wallMs: number): string {
    const second = Math.floor(wallMs / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#text = new Date(second * 1000).toISOString().slice(0, 20);
    }
    const micros = Math.floor((wallMs - second * 1000) * 1000);
    return `${this.#text}${String(micros).padStart(6, "0")}Z`;
  }
}

/** One line with its line feed. A plain line without fields ends in a tab. */
export function formatLine(
  format: LogFormat,
  time: string,
  level: LogLevel,
  scope: string,
  message: string,
  fields?: LogFields,
): string {
  return format === "json"
    ? `${jsonHead(time, level, scope, message)}${jsonFields(fields)}}\n`
    : `${plainHead(time, level, scope, message)}${plainFields(fields)}\n`;
}

/** Everything before the fields; ends in a tab. A message may span lines (the start-up dump does). */
export function plainHead(time: string, level: LogLevel, scope: string, message: string): string {
  const shown = scope.startsWith(SCOPE_PREFIX) ? scope.slice(SCOPE_PREFIX.length) : scope;
  return `${time}\t${level}\t${shown}\t${message}\t`;
}

/** Everything before the fields; the closing brace is still to come. */
export function jsonHead(time: string, level: LogLevel, scope: string, message: string): string {
  return `{"level":"${level}","time":"${time}","scope":${JSON.stringify(scope)},"message":${JSON.stringify(message)}`;
}

/** A string in double quotes. Quotes, backslashes and control characters are escaped, so that a value cannot forge a line. */
export function quote(value: string): string {
  return NEEDS_ESCAPE.test(value) ? `"${value.replace(ESCAPED, escape)}"` : `"${value}"`;
}

/** Everything but printable characters that mean themselves: quotes, backslashes, controls, line separators. */
const NEEDS_ESCAPE = /[^ !#-[\]-~\u00a0-\u2027\u202a-\uffff]/;
const ESCAPED = new RegExp(NEEDS_ESCAPE, "g");

function escape(char: string): string {
  switch (char) {
    case '"':
    case "\\":
      return `\\${char}`;
    case "\n":
      return "\\n";
    case "\r":
      return "\\r";
    case "\t":
      return "\\t";
    default:
      return `\\u{${char.charCodeAt(0).toString(16)}}`;
  }
}

function plainFields(fields: LogFields | undefined): string {
  let text = "";
  for (const key in fields) {
    const value = fields[key];
    if (value === undefined) continue;
    const shown = typeof value === "string" ? quote(value) : String(value);
    text += text === "" ? `${key}=${shown}` : ` ${key}=${shown}`;
  }
  return text;
}

function jsonFields(fields: LogFields | undefined): string {
  let text = "";
  for (const key in fields) {
    const value = fields[key];
    if (value !== undefined) text += `,${JSON.stringify(key)}:${JSON.stringify(value)}`;
  }
  return text;
}
