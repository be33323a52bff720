import { type Log, messageOf, sleep } from "@tulle/base";

export interface ReconcilerOptions {
  /** Brings what is there to what is wanted. May be called when there is nothing to do. */
  readonly work: () => Promise<void>;
  /** For the log, when it fails: `services have no addresses yet`. */
  readonly complaint: string;
  readonly log: Log;
}

const RETRY_MS = 500;

/** Does its work after each poke, one run at a time; pokes meanwhile are one more run. A run that fails is told and repeated. */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #stop = new AbortController();
  #due = false;
  #active = false;
  #running: Promise<void> = Promise.resolve();

  constructor(options: ReconcilerOptions) {
    this.#options = options;
  }

  poke(): void {
    this.#due = true;
    if (this.#active) return;
    this.#active = true;
    this.#running = this.#run();
  }

  /** Aborts when it is closed: for work that waits. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Waits for the run that is under way; there is none after it. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { work, complaint, log } = this.#options;
    const { signal } = this.#stop;
    while (this.#due && !signal.aborted) {
      this.#due = false;
      try {
        await work();
      } catch (error) {
        log.warn(`${complaint}: ${messageOf(error)}`);
        this.#due = true;
        await sleep(RETRY_MS, signal);
      }
    }
    this.#active = false;
  }
}
