import { type LabboxEvent, LabboxProcess } from "./labbox-process.ts";

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
export interface LoadFailure extends LabboxEvent {
  readonly event: "failed";
  readonly time: number;
  readonly connection: "new" | "kept";
  /** `connect`, `write`, `read`, `body`, each also with ` timeout`, `status`, `queue timeout`. */
  readonly kind: string;
  readonly error: string;
}

export interface LoadSummary extends LabboxEvent {
  readonly event: "summary";
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

const DEFAULTS = { rate: 200, newShare: 0.5, connections: 8, timeoutMs: 5000, maxDurationMs: 600_000 };
/** Beyond the time-out of the last requests. */
const STOP_GRACE_MS = 10_000;

/** Requests from a pod, counted one by one. */
export class Load implements AsyncDisposable {
  readonly #process: LabboxProcess;
  readonly #timeoutMs: number;

  private constructor(process: LabboxProcess, timeoutMs: number) {
    this.#process = process;
    this.#timeoutMs = timeoutMs;
  }

  /** Resolves when the first request is about to be sent. */
  static async start(enter: readonly string[], options: LoadOptions): Promise<Load> {
    const { url, rate, newShare, connections, timeoutMs, maxDurationMs } = { ...DEFAULTS, ...options };
    const flags = [`-rate=${rate}`, `-new=${newShare}`, `-connections=${connections}`];
    const times = [`-timeout=${timeoutMs}ms`, `-duration=${maxDurationMs}ms`];
    return new Load(await LabboxProcess.start(enter, ["load", ...flags, ...times, url]), timeoutMs);
  }

  /** Those so far, the first 10,000. */
  get failures(): LoadFailure[] {
    return this.#process.events.filter((event): event is LoadFailure => event.event === "failed");
  }

  /** Whether it runs no more, for whatever reason. */
  get ended(): boolean {
    return this.#process.ended;
  }

  /** Sends no more requests, waits for the answers, and tells what came of all. Idempotent. */
  async stop(): Promise<LoadSummary> {
    await this.#process.stop(this.#timeoutMs + STOP_GRACE_MS);
    const { last, errors } = this.#process;
    if (last?.event !== "summary") throw new Error(`the load ended without a summary: ${errors}`);
    return last as LoadSummary;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
  }
}
