import type { Log, LogFields } from "@tulle/base";

/** What a person at the terminal sees while the mesh comes up. Everything goes to standard error. */
export interface Progress {
  /** A step begins; the returned function ends it with a tick. */
  step(title: string): Step;
  /** Something that is neither a step nor an error. */
  note(text: string): void;
  fail(text: string): void;
}

export interface Step {
  /** Says how far it is; replaces what was said before. */
  update(detail: string): void;
  done(detail?: string): void;
}

interface Terminal {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

const TICK = "✓";
const CROSS = "✗";
const BUSY = "…";
const CLEAR_LINE = "\r\x1b[2K";

/** On a terminal a running step rewrites its own line; elsewhere each finished step is one line. */
export function terminalProgress(out: Terminal): Progress {
  let open = "";
  const tty = out.isTTY === true;
  const line = (text: string) => {
    out.write(`${tty && open !== "" ? CLEAR_LINE : ""}${text}\n`);
    if (tty && open !== "") out.write(open);
  };
  const show = (text: string) => {
    if (!tty) return;
    out.write(`${open === "" ? "" : CLEAR_LINE}${text}`);
    open = text;
  };
  return {
    step(title) {
      show(`${BUSY} ${title}`);
      const started = performance.now();
      return {
        update: (detail) => show(`${BUSY} ${title}: ${detail}`),
        done(detail) {
          if (tty && open !== "") out.write(CLEAR_LINE);
          open = "";
          const seconds = ((performance.now() - started) / 1000).toFixed(1);
          line(`${TICK} ${title}${detail === undefined ? "" : `: ${detail}`} (${seconds} s)`);
        },
      };
    },
    note: line,
    fail: (text) => line(`${CROSS} ${text}`),
  };
}

/** Warnings and errors to the terminal; the rest is nobody's business while it works. */
export function progressLog(progress: Progress, scope = ""): Log {
  const text = (message: string, fields?: LogFields) => {
    const extra = Object.entries(fields ?? {}).map(([name, value]) => ` ${name}=${value}`);
    return `${scope === "" ? "" : `${scope}: `}${message}${extra.join("")}`;
  };
  return {
    debug() {},
    info() {},
    warn: (message, fields) => progress.note(`! ${text(message, fields)}`),
    error: (message, fields) => progress.fail(text(message, fields)),
    scope: (name) => progressLog(progress, scope === "" ? name : `${scope}/${name}`),
  };
}
