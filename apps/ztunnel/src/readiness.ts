import type { Log, SocketAddress } from "@tulle/base";
import { HttpServer, respondText } from "./http-server.ts";

/** What must be done before this process may be called ready, by name (spec: l4-ztunnel §9.4). */
export class Readiness {
  readonly #pending = new Set<string>();
  readonly #checks: (() => readonly string[])[] = [];

  /** Names a task that is still to be done. Call the result when it is done; a task may become pending again. */
  task(name: string): () => void {
    this.#pending.add(name);
    return () => this.#pending.delete(name);
  }

  /** Asked at each request: names of what is not as it should be. */
  check(check: () => readonly string[]): void {
    this.#checks.push(check);
  }

  /** Sorted; empty when ready. */
  pending(): readonly string[] {
    return [...this.#pending, ...this.#checks.flatMap((check) => check())].sort();
  }
}

/** Names of data threads whose loops have stopped turning: traffic that the kernel gives them is not served. */
export class ThreadWatch {
  readonly #turns: () => readonly number[];
  readonly #now: () => number;
  readonly #last: { turns: number; since: number }[] = [];

  /** `turns`: how often each thread's loop has turned; `now`: monotonic milliseconds. */
  constructor(turns: () => readonly number[], now: () => number = () => performance.now()) {
    this.#turns = turns;
    this.#now = now;
  }

  stuck(): readonly string[] {
    const now = this.#now();
    return this.#turns().flatMap((turns, index) => {
      const last = this.#last[index];
      if (last === undefined || last.turns !== turns) {
        this.#last[index] = { turns, since: now };
        return [];
      }
      return now - last.since > STUCK_AFTER_MS ? [`data thread ${index}`] : [];
    });
  }
}

/** A loop that has nothing to do turns twice a second. */
const STUCK_AFTER_MS = 5000;

export interface ReadinessServerOptions {
  readonly addresses: readonly SocketAddress[];
  readonly readiness: Readiness;
  readonly log: Log;
}

/** Port 15021. */
export function startReadinessServer(options: ReadinessServerOptions): Promise<HttpServer> {
  const { addresses, log, readiness } = options;
  return HttpServer.start({
    name: "readiness",
    addresses,
    log,
    handle: (request, response) => {
      if (request.url?.split("?", 1)[0] !== "/healthz/ready") {
        respondText(response, 404, "not found\n");
      } else if (request.method !== "GET") {
        respondText(response, 405, "only GET is possible\n", { allow: "GET" });
      } else {
        const pending = readiness.pending();
        if (pending.length === 0) respondText(response, 200, "ready\n");
        else respondText(response, 500, `not ready, pending: ${pending.join(", ")}\n`);
      }
    },
  });
}
