import { type LabboxEvent, LabboxProcess } from "./labbox-process.ts";

export interface HoldOptions {
  /** `HOST:PORT` of a TCP echo. */
  readonly address: string;
  /** Between two lines. Default 100 ms. */
  readonly intervalMs?: number;
  /** For the connection, and for each echo. Default 5 s. */
  readonly timeoutMs?: number;
}

/** How a held connection ended by itself. */
export interface HoldFailure extends LabboxEvent {
  readonly event: "failed";
  readonly time: number;
  /** `connect`, `echo`, `echo timeout`. */
  readonly kind: string;
  readonly error: string;
  /** How many lines came back before. */
  readonly count?: number;
}

const DEFAULTS = { intervalMs: 100, timeoutMs: 5000 };
/** As long as any test may hold one. */
const MAX_DURATION = "25m";

/** One TCP connection from a pod that stays open, with a line to and fro ten times a second. */
export class HeldConnection implements AsyncDisposable {
  readonly #process: LabboxProcess;
  readonly #timeoutMs: number;

  private constructor(process: LabboxProcess, timeoutMs: number) {
    this.#process = process;
    this.#timeoutMs = timeoutMs;
  }

  /** Resolves when the first line has come back. Throws when the connection is refused. */
  static async start(enter: readonly string[], options: HoldOptions): Promise<HeldConnection> {
    const { address, intervalMs, timeoutMs } = { ...DEFAULTS, ...options };
    const flags = [`-interval=${intervalMs}ms`, `-timeout=${timeoutMs}ms`, `-duration=${MAX_DURATION}`];
    const held = new HeldConnection(await LabboxProcess.start(enter, ["hold", ...flags, address]), timeoutMs);
    if (held.failure === undefined) return held;
    await held[Symbol.asyncDispose]();
    throw new Error(`no connection to ${address}: ${held.failure.error}`);
  }

  /** Undefined as long as it works. */
  get failure(): HoldFailure | undefined {
    return this.#process.events.find((event): event is HoldFailure => event.event === "failed");
  }

  /** Closes it. Returns the failure that came before, if one did. */
  async stop(): Promise<HoldFailure | undefined> {
    await this.#process.stop(2 * this.#timeoutMs);
    if (this.failure === undefined && this.#process.last?.event !== "stopped") {
      throw new Error(`the connection's process ended by itself: ${this.#process.errors}`);
    }
    return this.failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
  }
}
