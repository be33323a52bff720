import { write as writeFile, writeSync } from "node:fs";

/**
 * Writes log text to a descriptor without ever making the caller wait: one write is under way at a time, on Node's
 * thread pool, so that a reader that stalls does not stall the process. What waits is bounded; beyond that lines are
 * dropped and counted. Important lines may use an eighth that others must leave free.
 */
export interface LogWriterOptions {
  /** Default: standard output. */
  readonly descriptor?: number;
  /** Bytes that may wait. Default 4 MiB, about 10,000 lines. */
  readonly maxBytes?: number;
}

const DEFAULT_MAX_BYTES = 4 << 20;
/** One write; lines of a burst share it. */
const CHUNK_BYTES = 65_536;
/** A pipe that someone made non-blocking is tried again after this. */
const RETRY_MS = 10;
/** How long the end of the process waits for a reader that has stalled. */
const FINAL_FLUSH_MS = 1000;

interface Chunk {
  readonly bytes: Buffer;
  start: number;
  end: number;
}

export class LogWriter {
  readonly #descriptor: number;
  readonly #maxBytes: number;
  /** The first chunk is being written when `#writing`; lines are added to the last. */
  readonly #chunks: Chunk[] = [];
  #spare: Chunk | undefined;
  #waiting = 0;
  #writing = false;
  #dropped = 0;
  #onRoom: (() => void)[] = [];
  #onEmpty: (() => void)[] = [];

  constructor(options: LogWriterOptions = {}) {
    this.#descriptor = options.descriptor ?? 1;
    this.#maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
  }

  /** Lines that were dropped because the reader was too slow, or gone. */
  get dropped(): number {
    return this.#dropped;
  }

  /** False: there was no room, the line is dropped and counted. */
  line(text: string, important: boolean): boolean {
    const bytes = Buffer.from(text);
    if (this.offer(bytes, 0, bytes.length, important)) return true;
    this.#dropped++;
    return false;
  }

  /** Copies bytes[start, end). False: no room now, nothing was taken; `room` tells when to try again. */
  offer(bytes: Buffer, start: number, end: number, important: boolean): boolean {
    const limit = important ? this.#maxBytes : this.#maxBytes - (this.#maxBytes >> 3);
    if (this.#waiting + end - start > limit) return false;
    for (let at = start; at < end; ) {
      const chunk = this.#open();
      const copied = bytes.copy(chunk.bytes, chunk.end, at, end);
      chunk.end += copied;
      at += copied;
    }
    this.#waiting += end - start;
    this.#pump();
    return true;
  }

  /** Resolves when half of the space is free. */
  room(): Promise<void> {
    return this.#waiting <= this.#maxBytes >> 1 ? Promise.resolve() : new Promise((done) => this.#onRoom.push(done));
  }

  /** Resolves when everything that was accepted so far has been written. */
  flush(): Promise<void> {
    return this.#waiting === 0 ? Promise.resolve() : new Promise((done) => this.#onEmpty.push(done));
  }

  /** For the end of the process: writes what waits, from here, for at most a second. */
  flushSync(): void {
    const deadline = performance.now() + FINAL_FLUSH_MS;
    // The first chunk is on its way already.
    const rest = this.#chunks.splice(this.#writing ? 1 : 0);
    for (const chunk of rest) {
      while (chunk.start < chunk.end) {
        try {
          chunk.start += writeSync(this.#descriptor, chunk.bytes, chunk.start, chunk.end - chunk.start);
        } catch (error) {
          if (!isAgain(error) || performance.now() > deadline) return;
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
        }
      }
      this.#waiting -= chunk.end;
    }
  }

  /** The chunk that takes the next bytes; never the one that is being written. */
  #open(): Chunk {
    const last = this.#chunks.at(-1);
    const busy = this.#writing && this.#chunks.length === 1;
    if (last !== undefined && !busy && last.end < last.bytes.length) return last;
    const chunk = this.#spare ?? { bytes: Buffer.allocUnsafeSlow(CHUNK_BYTES), start: 0, end: 0 };
    this.#spare = undefined;
    this.#chunks.push(chunk);
    return chunk;
  }

  #pump(): void {
    const chunk = this.#chunks[0];
    if (this.#writing || chunk === undefined) return;
    this.#writing = true;
    writeFile(this.#descriptor, chunk.bytes, chunk.start, chunk.end - chunk.start, null, (error, written) => {
      if (error === null) chunk.start += written;
      else if (isAgain(error)) {
        setTimeout(() => this.#retry(), RETRY_MS);
        return;
      } else {
        // Nobody reads any more (EPIPE), or the disk is full: the log must not end the process.
        this.#dropped += countLines(chunk);
        chunk.start = chunk.end;
      }
      this.#writing = false;
      if (chunk.start === chunk.end) this.#finish(chunk);
      this.#pump();
    });
  }

  #retry(): void {
    this.#writing = false;
    this.#pump();
  }

  #finish(chunk: Chunk): void {
    this.#chunks.shift();
    this.#waiting -= chunk.end;
    chunk.start = 0;
    chunk.end = 0;
    this.#spare = chunk;
    if (this.#waiting <= this.#maxBytes >> 1) for (const done of this.#onRoom.splice(0)) done();
    if (this.#waiting === 0) for (const done of this.#onEmpty.splice(0)) done();
  }
}

function countLines(chunk: Chunk): number {
  let lines = 0;
  for (let i = chunk.start; i < chunk.end; i++) if (chunk.bytes[i] === 0x0a) lines++;
  return lines;
}

function isAgain(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EAGAIN";
}
