import { LogFilter } from "./log-filter.ts";

/** The log filter in shared memory, so that a change reaches threads that take no messages. Main writes, the others read. */

/** An even version is a complete text; odd while it is being written. */
const VERSION = 0;
const LENGTH = 1;
const TEXT_AT = 16;
/** Bytes of filter text; longer filters are refused. */
export const MAX_FILTER_BYTES = 4096;

export function createLogControl(filter: LogFilter): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(TEXT_AT + MAX_FILTER_BYTES);
  writeLogControl(memory, filter);
  return memory;
}

/** Throws RangeError when the filter's text is too long. */
export function writeLogControl(memory: SharedArrayBuffer, filter: LogFilter): void {
  const text = Buffer.from(filter.toString());
  if (text.length > MAX_FILTER_BYTES) throw new RangeError(`a log filter may have ${MAX_FILTER_BYTES} bytes`);
  const words = new Int32Array(memory, 0, 2);
  Atomics.add(words, VERSION, 1);
  Buffer.from(memory, TEXT_AT).set(text);
  Atomics.store(words, LENGTH, text.length);
  Atomics.add(words, VERSION, 1);
}

/** The current filter, parsed again only after a change. */
export class LogControl {
  readonly #words: Int32Array;
  readonly #text: Buffer;
  #version = -1;
  #filter = LogFilter.default;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory, 0, 2);
    this.#text = Buffer.from(memory, TEXT_AT);
  }

  get filter(): LogFilter {
    const version = Atomics.load(this.#words, VERSION);
    return version === this.#version ? this.#filter : this.#reload(version);
  }

  #reload(version: number): LogFilter {
    // In the middle of a change the old filter still holds; the next line looks again.
    if ((version & 1) !== 0) return this.#filter;
    const text = this.#text.toString("utf8", 0, Atomics.load(this.#words, LENGTH));
    if (Atomics.load(this.#words, VERSION) !== version) return this.#filter;
    const filter = LogFilter.parse(text);
    if (filter instanceof LogFilter) this.#filter = filter;
    this.#version = version;
    return this.#filter;
  }
}
