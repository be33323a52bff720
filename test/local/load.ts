import { Agent, get } from "node:http";
import { sleep } from "@tulle/base";

/** Requests of a client that never tries again: half of them on connections of their own, half on kept ones. */
export class Load implements AsyncDisposable {
  readonly failures: string[] = [];
  requests = 0;
  readonly #url: string;
  readonly #kept = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;

  /** `clients` of each kind, each with a pause between its requests. */
  constructor(url: string, { clients, pauseMs }: { readonly clients: number; readonly pauseMs: number }) {
    this.#url = url;
    const kinds = Array.from({ length: clients }, () => [undefined, this.#kept]).flat();
    this.#running = Promise.all(kinds.map((agent) => this.#run(agent, pauseMs)));
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    this.#kept.destroy();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #run(agent: Agent | undefined, pauseMs: number): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      this.requests++;
      const failure = await ask(this.#url, agent ?? new Agent({ keepAlive: false }));
      if (failure !== undefined)
        this.failures.push(`${new Date().toISOString()} ${agent === undefined ? "new" : "kept"}: ${failure}`);
      await sleep(pauseMs, signal);
    }
  }
}

const TIMEOUT_MS = 10_000;

function ask(url: string, agent: Agent): Promise<string | undefined> {
  return new Promise((resolve) => {
    const call = get(url, { agent, timeout: TIMEOUT_MS }, (answer) => {
      answer.resume();
      answer.on("error", (error) => resolve(error.message));
      answer.on("end", () => resolve(answer.statusCode === 200 ? undefined : `it answered ${answer.statusCode}`));
    });
    call.on("timeout", () => call.destroy(new Error("no answer")));
    call.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}
