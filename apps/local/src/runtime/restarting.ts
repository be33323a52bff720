import { Backoff, sleep } from "@tulle/base";
import { type Child, describeExit } from "./child-process.ts";
import type { LogFile } from "./log-file.ts";

export interface RestartingOptions {
  readonly start: () => Child;
  readonly log: LogFile;
  /** Called when it has started and when it has ended. */
  readonly changed: () => void;
  /** Wait before the first restart; doubles up to a minute. */
  readonly restartMs: number;
}

const RESTART_MAX_MS = 60_000;
/** A process that ran this long was healthy: its next crash starts from the first delay again. */
const HEALTHY_AFTER_MS = 30_000;

/** A process that is started again when it ends, until it is stopped. */
export class Restarting {
  readonly #options: RestartingOptions;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  #child: Child | undefined;
  #restarts = 0;

  constructor(options: RestartingOptions) {
    this.#options = options;
    // Not before the caller has this object: `changed` may ask it.
    this.#loop = Promise.resolve().then(() => this.#run());
  }

  /** The process that runs now. */
  get child(): Child | undefined {
    return this.#child?.exited === undefined ? this.#child : undefined;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** Resolves when nothing runs any more. `target` gets the SIGTERM instead of the process. */
  async stop(graceMs: number, target?: number): Promise<void> {
    this.#stop.abort();
    await this.#child?.stop(graceMs, target);
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { start, log, changed, restartMs } = this.#options;
    const { signal } = this.#stop;
    const backoff = new Backoff({ initialMs: restartMs, maxMs: RESTART_MAX_MS });
    while (!signal.aborted) {
      const started = performance.now();
      const child = start();
      this.#child = child;
      changed();
      log.note(`process ended: ${describeExit(await child.ended)}`);
      changed();
      if (signal.aborted) return;
      if (performance.now() - started > HEALTHY_AFTER_MS) backoff.reset();
      await sleep(backoff.next(), signal);
      this.#restarts++;
    }
  }
}
