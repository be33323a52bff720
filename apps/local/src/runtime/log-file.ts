import { appendFileSync, existsSync, renameSync, statSync } from "node:fs";

/** Larger than any useful log of a local try-out; two files of this size a process at most. */
const MAX_BYTES = 4 * 1024 * 1024;

/** A log that is bounded: when it is full it becomes `<path>.1` and a new one begins. Losing a line never hurts the writer. */
export class LogFile {
  readonly path: string;
  #bytes: number;

  constructor(path: string) {
    this.path = path;
    this.#bytes = existsSync(path) ? statSync(path).size : 0;
  }

  write(text: string | Uint8Array): void {
    try {
      if (this.#bytes > MAX_BYTES) {
        renameSync(this.path, `${this.path}.1`);
        this.#bytes = 0;
      }
      appendFileSync(this.path, text, { mode: 0o600 });
      this.#bytes += text.length;
    } catch {
      // A full disk must not end the mesh; the next line tries again.
    }
  }

  /** A line of our own between the lines of the process. */
  note(text: string): void {
    this.write(`${new Date().toISOString()} ${text}\n`);
  }
}
