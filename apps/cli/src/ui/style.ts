/** Marks and colours of what people read. */

interface Stream {
  readonly isTTY?: boolean;
}

export interface Style {
  good(text: string): string;
  bad(text: string): string;
  faint(text: string): string;
}

export const TICK = "✔";
export const CROSS = "✘";
export const WARNING = "!";

const plain = (text: string) => text;

/** Colour only on a terminal, and never when NO_COLOR is set (no-color.org). */
export function styleFor(stream: object, env: Readonly<Partial<Record<string, string>>> = {}): Style {
  const colours = (stream as Stream).isTTY === true && (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb";
  if (!colours) return { good: plain, bad: plain, faint: plain };
  const wrap = (code: number) => (text: string) => `\x1b[${code}m${text}\x1b[0m`;
  return { good: wrap(32), bad: wrap(31), faint: wrap(2) };
}
