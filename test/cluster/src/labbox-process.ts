import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { until } from "@tulle/lab";

/** One line of what labbox's `load` and `hold` print; the other fields depend on the event. */
export interface LabboxEvent {
  readonly event: string;
  /** Milliseconds since the epoch. */
  readonly time?: number;
}

/** More events than a person reads; the last (a summary) is always kept. */
export const MAX_EVENTS = 10_000;
/** Of what is no event: enough for the end of a stack trace. */
const MAX_ERRORS = 10_000;

/**
 * A labbox command in a pod's namespaces that runs until it is told to stop. It takes the end of its standard input for
 * that, so it also stops when this process is gone; and it needs neither API server nor kubelet.
 */
export class LabboxProcess implements AsyncDisposable {
  /** The first 10,000. */
  readonly events: LabboxEvent[] = [];
  readonly #child: ChildProcess;
  readonly #closed: Promise<void>;
  #last: LabboxEvent | undefined;
  #errors = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    if (child.stdout !== null) createInterface({ input: child.stdout }).on("line", (line) => this.#take(line));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => this.#keep(text));
    // It only says that the process has ended.
    child.stdin?.on("error", () => {});
    child.on("error", (error) => this.#keep(error.message));
    this.#closed = new Promise((resolve) => child.on("close", () => resolve()));
  }

  /** `enter`: the words that run a program in the pod's namespaces. Resolves at the first event; throws when none comes. */
  static async start(enter: readonly string[], args: readonly string[]): Promise<LabboxProcess> {
    const [program = "", ...words] = enter;
    const started = new LabboxProcess(
      spawn(program, [...words, "/labbox", ...args], { stdio: ["pipe", "pipe", "pipe"] }),
    );
    try {
      await until(() => started.events.length > 0 || started.ended, { what: `labbox ${args[0]} to start` });
      if (started.events.length === 0) throw new Error(`labbox ${args[0]} did not start: ${started.errors}`);
      return started;
    } catch (error) {
      await started[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Whether it runs no more, for whatever reason. */
  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined;
  }

  /** The latest event. */
  get last(): LabboxEvent | undefined {
    return this.#last;
  }

  /** What it wrote that is no event. */
  get errors(): string {
    return this.#errors.trim();
  }

  /** Tells it to stop, waits for its end, by force after `limitMs`. Idempotent. */
  async stop(limitMs: number): Promise<void> {
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), limitMs);
    await this.#closed;
    clearTimeout(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // nsenter does not hand a signal on to what it started; that ends with its standard input.
    this.#child.stdin?.end();
    this.#child.kill("SIGKILL");
    await this.#closed;
  }

  #take(line: string): void {
    try {
      this.#last = JSON.parse(line) as LabboxEvent;
    } catch {
      // Not one of its lines: a crash, say.
      this.#keep(`${line}\n`);
      return;
    }
    if (this.events.length < MAX_EVENTS) this.events.push(this.#last);
  }

  #keep(text: string): void {
    this.#errors = (this.#errors + text).slice(-MAX_ERRORS);
  }
}
