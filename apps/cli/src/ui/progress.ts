import { CROSS, type Style, styleFor, TICK, WARNING } from "./style.ts";

/** How far a command is, on standard error: a line per finished step, and on a terminal one that is rewritten. */
export interface Progress {
  /** What is being done now. */
  working(text: string): void;
  done(text: string): void;
  warn(text: string): void;
  failed(text: string): void;
}

interface Terminal {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

const CLEAR_LINE = "\r\x1b[2K";
const BUSY = "…";

export function terminalProgress(out: Terminal, env?: Readonly<Partial<Record<string, string>>>): Progress {
  const style: Style = styleFor(out, env);
  const rewrites = out.isTTY === true;
  let open = false;
  const line = (text: string) => {
    out.write(`${open ? CLEAR_LINE : ""}${text}\n`);
    open = false;
  };
  return {
    working(text) {
      if (!rewrites) return;
      out.write(`${CLEAR_LINE}${BUSY} ${text}`);
      open = true;
    },
    done: (text) => line(`${style.good(TICK)} ${text}`),
    warn: (text) => line(`${WARNING} ${text}`),
    failed: (text) => line(`${style.bad(CROSS)} ${text}`),
  };
}
