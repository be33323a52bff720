import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { until } from "@tulle/lab";

export interface LoadOptions {
  /** `http://` only. */
  readonly url: string;
  /** Requests a second, by the clock, whether or not earlier ones were answered. Default 200. */
  readonly rate?: number;
  /** Share of the requests that open a connection of their own, 0 to 1; the others go over kept ones. Default 0.5. */
  readonly newShare?: number;
  /** Kept connections. Default 8. */
  readonly connections?: number;
  /** For each request. Default 5 s. */
  readonly timeoutMs?: number;
  /** It ends by itself after this time. Default 10 minutes. */
  readonly maxDurationMs?: number;
}

/** A request that failed; nothing is ever tried again. */
export interface LoadFailure {
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly connection: "new" | "kept";
  /** `connect`, `write`, `read`, `body`, each also with ` timeout`, `status`, `queue timeout`. */
  readonly kind: string;
  readonly error: string;
}

export interface LoadSummary {
  readonly sent: number;
  readonly ok: number;
  readonly failed: number;
  /** Not sent because 4096 others waited for their answers. */
  readonly skipped: number;
  readonly new: number;
  readonly kept: number;
  readonly failedNew: number;
  readonly failedKept: number;
  /** Connections opened, by both kinds. */
  readonly dialled: number;
  readonly seconds: number;
  /** Of the requests that succeeded. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** How late the latest request was sent: above some milliseconds the machine was too busy for the rate. */
  readonly lateMaxMs: number;
}

/** More failures than a person reads; the summary counts all of them. */
const MAX_FAILURES = 10_000;
const DEFAULTS = { rate: 200, newShare: 0.5, connections: 8, timeoutMs: 5000, maxDurationMs: 600_000 };
/** Beyond the time-out of the last requests. */
const STOP_GRACE_MS = 10_000;

/** Requests from a pod, made by labbox in the pod's namespaces: it needs neither API server nor kubelet while it runs. */
export class Load implements AsyncDisposable {
  /** Those so far, the first 10,000. */
  readonly failures: LoadFailure[] = [];
  readonly #child: ChildProcess;
  readonly #timeoutMs: number;
  readonly #closed: Promise<void>;
  #started = false;
  #summary: LoadSummary | undefined;
  #errors = "";

  private constructor(child: ChildProcess, timeoutMs: number) {
    this.#child = child;
    this.#timeoutMs = timeoutMs;
    if (child.stdout !== null) createInterface({ input: child.stdout }).on("line", (line) => this.#take(line));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#errors = (this.#errors + text).slice(-MAX_FAILURES);
    });
    // It only says that the load has ended.
    child.stdin?.on("error", () => {});
    child.on("error", (error) => {
      this.#errors += error.message;
    });
    this.#closed = new Promise((resolve) => child.on("close", () => resolve()));
  }

  /** `enter`: the words that run a program in the pod's namespaces. Resolves when the first request is about to be sent. */
  static async start(enter: readonly string[], options: LoadOptions): Promise<Load> {
    const { url, rate, newShare, connections, timeoutMs, maxDurationMs } = { ...DEFAULTS, ...options };
    const flags = [`-rate=${rate}`, `-new=${newShare}`, `-connections=${connections}`];
    const times = [`-timeout=${timeoutMs}ms`, `-duration=${maxDurationMs}ms`];
    const [program = "", ...args] = enter;
    const words = [...args, "/labbox", "load", ...flags, ...times, url];
    const load = new Load(spawn(program, words, { stdio: ["pipe", "pipe", "pipe"] }), timeoutMs);
    await until(() => load.#started || load.ended, { what: "the load to start" });
    if (!load.#started) throw new Error(`the load did not start: ${load.#errors.trim()}`);
    return load;
  }

  /** Whether it runs no more, for whatever reason. */
  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined;
  }

  /** Sends no more requests, waits for the answers, and tells what came of all. Idempotent. */
  async stop(): Promise<LoadSummary> {
    // It takes the end of its input for the order to stop.
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), this.#timeoutMs + STOP_GRACE_MS);
    await this.#closed;
    clearTimeout(timer);
    if (this.#summary === undefined) throw new Error(`the load ended without a summary: ${this.#errors.trim()}`);
    return this.#summary;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin?.end();
    this.#child.kill("SIGKILL");
    await this.#closed;
  }

  #take(line: string): void {
    let said: { readonly event?: string };
    try {
      said = JSON.parse(line) as typeof said;
    } catch {
      // Not one of its lines: a crash, say.
      this.#errors = `${this.#errors}${line}\n`.slice(-MAX_FAILURES);
      return;
    }
    if (said.event === "started") this.#started = true;
    else if (said.event === "summary") this.#summary = said as unknown as LoadSummary;
    else if (said.event === "failed" && this.failures.length < MAX_FAILURES) {
      this.failures.push(said as unknown as LoadFailure);
    }
  }
}
