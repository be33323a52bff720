import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { type Log, MeshError } from "@tulle/base";
import { type NetNamespace, Waker } from "@tulle/linux";
import { ChangeCodec, type MeshChange } from "@tulle/mesh";
import type { ThreadTelemetry } from "@tulle/telemetry";
import { MAX_PODS } from "./data/limits.ts";
import type {
  Command,
  DataSettings,
  IdentityMessage,
  ProxyConnections,
  ProxyKind,
  Report,
  StopMode,
  WorkloadInfo,
} from "./protocol.ts";

/** What a data thread gets when it starts. */
export interface ThreadInput {
  readonly settings: DataSettings;
  readonly port: MessagePort;
  readonly podCounters: SharedArrayBuffer;
  readonly telemetry: ThreadTelemetry;
}

export interface DataThreadsOptions {
  readonly threads: number;
  readonly settings: Omit<DataSettings, "threadIndex">;
  readonly podCounters: SharedArrayBuffer;
  /** The shared memory of a thread's records and counters. */
  readonly telemetry: (threadIndex: number) => ThreadTelemetry;
  readonly log: Log;
  /** A thread wants a certificate; answer with `provideIdentity` or `failIdentity`. */
  readonly onNeedIdentity: (uri: string) => void;
  /** A thread wants an address of the mesh; answer with `answerAddress` after what was found has been applied. */
  readonly onNeedAddress: (name: string) => void;
  /** A thread has ended on its own: the process cannot go on, since the kernel still gives its listeners connections. */
  readonly onFatal: (error: Error) => void;
}

export interface StartProxy {
  readonly proxy: ProxyKind;
  readonly uid: string;
  readonly workload: WorkloadInfo;
  /** Stays the caller's, who keeps it open until the start is answered: each thread makes a duplicate. */
  readonly namespace: NetNamespace | undefined;
}

/** A command that is answered by every thread must be so within this time: threads turn at least twice a second. */
const ANSWER_TIMEOUT_MS = 10_000;
/** What a data thread allocates dies young; a bigger nursery would only be more memory that is touched in turn. */
const YOUNG_GENERATION_MB = 8;
/** Changes per message, so that a thread serves traffic between two slices of a big update. */
const CHANGES_PER_MESSAGE = 256;

/** The data threads as the main thread sees them: every command goes to all of them. */
export class DataThreads {
  readonly #options: DataThreadsOptions;
  readonly #threads: DataThread[] = [];
  readonly #codec = new ChangeCodec();
  readonly #slots = new SlotAllocator(MAX_PODS);
  #sequence = 0;
  #closing = false;

  private constructor(options: DataThreadsOptions) {
    this.#options = options;
  }

  /** Resolves when every thread turns its loop. */
  static async start(options: DataThreadsOptions): Promise<DataThreads> {
    const all = new DataThreads(options);
    await Promise.all(Array.from({ length: options.threads }, (_, index) => all.#startThread(index)));
    return all;
  }

  /** For the profiler. */
  get workers(): readonly Worker[] {
    return this.#threads.map((thread) => thread.worker);
  }

  /** The newest sequence number that every thread has applied. */
  get applied(): number {
    return Math.min(...this.#threads.map((thread) => thread.applied));
  }

  /** The newest sequence number that was sent. */
  get sent(): number {
    return this.#sequence;
  }

  /** Sends changes to every thread, in order; encoded once. Throws CHANGE_TOO_LARGE, and then none was sent. */
  apply(changes: readonly MeshChange[]): void {
    const encoded = changes.map((change) => this.#codec.encode(change));
    for (let start = 0; start < encoded.length; start += CHANGES_PER_MESSAGE) {
      this.#sequence++;
      const slice = encoded.slice(start, start + CHANGES_PER_MESSAGE);
      this.#broadcast({ kind: "changes", sequence: this.#sequence, changes: slice });
    }
  }

  /** Opens the pod's listeners on every thread, or on none: then it rejects with the first reason. */
  async startProxy(start: StartProxy): Promise<void> {
    const slot = this.#slots.take(start.uid);
    if (slot === undefined) {
      throw new MeshError(`this node runs ${MAX_PODS} proxies already; pod ${start.uid} cannot be served`, {
        code: "TOO_MANY_PODS",
        side: "internal",
      });
    }
    const results = await Promise.allSettled(
      this.#threads.map((thread) =>
        thread.ask((request) => ({
          kind: "start-proxy",
          request,
          proxy: start.proxy,
          uid: start.uid,
          workload: start.workload,
          namespace: start.namespace?.descriptor,
          slot,
        })),
      ),
    );
    const failed = results.find((result) => result.status === "rejected");
    if (failed === undefined) return;
    await this.stopProxy(start.uid, "immediate");
    throw failed.reason;
  }

  /** Resolves when every thread has closed the pod's sockets and its namespace descriptor. */
  async stopProxy(uid: string, mode: StopMode): Promise<void> {
    await Promise.all(
      this.#threads.map((thread) => thread.ask((request) => ({ kind: "stop-proxy", request, uid, mode }))),
    );
    this.#slots.give(uid);
  }

  /** Every thread gets its own copy of the key. */
  provideIdentity(uri: string, material: IdentityMessage): void {
    for (const thread of this.#threads) {
      const privateKey = Uint8Array.from(material.privateKey);
      thread.send({ kind: "identity", uri, material: { ...material, privateKey } }, [privateKey.buffer]);
    }
  }

  answerAddress(name: string): void {
    this.#broadcast({ kind: "address-answered", name });
  }

  failIdentity(uri: string, reason: string): void {
    this.#broadcast({ kind: "identity-failed", uri, reason });
  }

  forgetIdentity(uri: string): void {
    this.#broadcast({ kind: "identity-forgotten", uri });
  }

  /** The live connections of every pod, merged over the threads. */
  async connections(): Promise<readonly ProxyConnections[]> {
    const perThread = await Promise.all(
      this.#threads.map((thread) => thread.askConnections((request) => ({ kind: "connections", request }))),
    );
    const merged = new Map<string, ProxyConnections>();
    for (const { uid, inbound, outbound } of perThread.flat()) {
      const other = merged.get(uid);
      merged.set(uid, {
        uid,
        inbound: [...(other?.inbound ?? []), ...inbound],
        outbound: [...(other?.outbound ?? []), ...outbound],
      });
    }
    return [...merged.values()];
  }

  /** Ends gracefully; what is left after `deadlineMs` is cut. */
  async drain(deadlineMs: number): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.drain(deadlineMs)));
  }

  /** Ends the threads. */
  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all(this.#threads.map((thread) => thread.exit()));
  }

  /** Tests: makes one thread throw where nothing catches it. */
  throwOnThread(index: number): void {
    this.#threads[index]?.send({ kind: "throw" });
  }

  #broadcast(command: Command): void {
    for (const thread of this.#threads) thread.send(command);
  }

  async #startThread(index: number): Promise<void> {
    const { settings, podCounters, telemetry, log, onFatal } = this.#options;
    const { port1, port2 } = new MessageChannel();
    const input: ThreadInput = {
      settings: { ...settings, threadIndex: index },
      port: port2,
      podCounters,
      telemetry: telemetry(index),
    };
    const worker = new Worker(new URL("./data/thread-main.ts", import.meta.url), {
      workerData: input,
      transferList: [port2],
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
      name: `data-${index}`,
    });
    worker.on("error", (error: Error) => {
      log.error("data thread failed", { thread: index, error: error.stack ?? error.message });
      onFatal(error);
    });
    worker.on("exit", (code) => {
      if (!this.#closing) onFatal(new Error(`data thread ${index} ended with code ${code}`));
    });
    const thread = new DataThread(worker, port1, this.#options);
    this.#threads.push(thread);
    await thread.ready;
  }
}

interface Pending {
  readonly resolve: (report: Report) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** One worker: its port, its wake descriptor, and the questions that it has not answered yet. */
class DataThread {
  readonly ready: Promise<void>;
  applied = 0;
  readonly worker: Worker;
  readonly #port: MessagePort;
  readonly #pending = new Map<number, Pending>();
  /** From the start on: a thread that has failed is gone before anybody asks it to end. */
  readonly #exited: Promise<void>;
  readonly #needs: Pick<DataThreadsOptions, "onNeedIdentity" | "onNeedAddress">;
  #waker: Waker | undefined;
  #nextRequest = 1;
  #onReady: () => void = () => {};
  #onDrained: () => void = () => {};

  constructor(worker: Worker, port: MessagePort, needs: Pick<DataThreadsOptions, "onNeedIdentity" | "onNeedAddress">) {
    this.worker = worker;
    this.#exited = new Promise((resolve) => worker.once("exit", () => resolve()));
    this.#port = port;
    this.#needs = needs;
    this.ready = new Promise((resolve, reject) => {
      this.#onReady = resolve;
      worker.once("error", reject);
    });
    port.on("message", (report: Report) => this.#onReport(report));
  }

  send(command: Command, transfer: ArrayBuffer[] = []): void {
    this.#port.postMessage(command, transfer);
    this.#waker?.wake();
  }

  async ask(command: (request: number) => Command): Promise<void> {
    const report = await this.#request(command);
    if (report.kind === "done" && report.error !== undefined) {
      throw new MeshError(report.error, { code: "PROXY_START_FAILED", side: "internal" });
    }
  }

  async askConnections(command: (request: number) => Command): Promise<readonly ProxyConnections[]> {
    const report = await this.#request(command);
    return report.kind === "connections" ? report.proxies : [];
  }

  drain(deadlineMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#onDrained = resolve;
      this.send({ kind: "drain", deadlineMs });
    });
  }

  async exit(): Promise<void> {
    this.send({ kind: "exit" });
    await this.#exited;
    this.#waker?.close();
    this.#port.close();
  }

  #request(command: (request: number) => Command): Promise<Report> {
    const request = this.#nextRequest++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(request);
        reject(new Error(`a data thread has not answered within ${ANSWER_TIMEOUT_MS / 1000} s`));
      }, ANSWER_TIMEOUT_MS);
      this.#pending.set(request, { resolve, reject, timer });
      this.send(command(request));
    });
  }

  #onReport(report: Report): void {
    switch (report.kind) {
      case "ready":
        this.#waker = new Waker(report.wakeDescriptor);
        this.#onReady();
        return;
      case "applied":
        this.applied = report.sequence;
        return;
      case "need-identity":
        this.#needs.onNeedIdentity(report.uri);
        return;
      case "need-address":
        this.#needs.onNeedAddress(report.name);
        return;
      case "drained":
        this.#onDrained();
        return;
      case "done":
      case "connections": {
        const pending = this.#pending.get(report.request);
        this.#pending.delete(report.request);
        clearTimeout(pending?.timer);
        pending?.resolve(report);
        return;
      }
      default:
        report satisfies never;
    }
  }
}

/** Gives each pod a slot of the shared counters; a pod keeps its slot until it is gone from every thread. */
class SlotAllocator {
  readonly #free: number[];
  readonly #taken = new Map<string, number>();

  constructor(size: number) {
    this.#free = Array.from({ length: size }, (_, i) => size - 1 - i);
  }

  take(uid: string): number | undefined {
    const slot = this.#taken.get(uid) ?? this.#free.pop();
    if (slot !== undefined) this.#taken.set(uid, slot);
    return slot;
  }

  give(uid: string): void {
    const slot = this.#taken.get(uid);
    if (slot === undefined) return;
    this.#taken.delete(uid);
    this.#free.push(slot);
  }
}
