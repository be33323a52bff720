import v8 from "node:v8";
import type { CPUProfileHandle, CPUProfileOptions, HeapProfileHandle, HeapProfileOptions } from "node:v8";
import { sleep } from "@tulle/base";
import { encodeProfile, type ProfileFrame, type ProfileSample } from "./pprof.ts";

/** Profiles of the main thread and of every data thread, by V8 itself (spec: l4-ztunnel §9.1). */

/** A data thread; a Worker is one. It answers although it never returns to its event loop. */
export interface ProfiledThread {
  readonly threadName: string | null;
  startCpuProfile(options?: CPUProfileOptions): Promise<CPUProfileHandle>;
  startHeapProfile(options?: HeapProfileOptions): Promise<HeapProfileHandle>;
}

/** What V8 hands out as JSON. */
interface CpuProfile {
  readonly nodes: readonly { readonly id: number; readonly callFrame: ProfileFrame; readonly children?: number[] }[];
  /** Node ids. */
  readonly samples: readonly number[];
  /** Microseconds before each sample. */
  readonly timeDeltas: readonly number[];
}

interface HeapNode {
  readonly id: number;
  readonly callFrame: ProfileFrame;
  readonly selfSize: number;
  readonly children: readonly HeapNode[];
}

interface HeapProfile {
  readonly head: HeapNode;
  readonly samples: readonly { readonly nodeId: number }[];
}

interface Handle {
  stop(): string | Promise<string>;
}

type Handles = Map<string, Handle>;

const MAIN = "main";
/** V8's name for a thread that waits in its event loop. */
const IDLE = "(idle)";
/** Where a data thread waits for events; V8 cannot tell that from work. */
const WAIT = { functionName: "wait", file: /\/linux\/src\/epoll\.[jt]s$/ };
/** Mean bytes between two samples: V8's own default. */
const HEAP_INTERVAL = 524_288;
const HEAP_DEPTH = 64;

export class Profiler {
  readonly #threads: () => readonly ProfiledThread[];
  #busy = false;
  #heap: { readonly startedAt: number; readonly handles: Promise<Handles> } | undefined;

  /** `threads`: those that run now. */
  constructor(threads: () => readonly ProfiledThread[]) {
    this.#threads = threads;
  }

  /** A pprof profile, not compressed; undefined when one is being taken already. Ends early when the signal aborts. */
  async cpu(seconds: number, frequency: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    if (this.#busy) return undefined;
    this.#busy = true;
    try {
      const startedAt = Date.now();
      const options = { sampleInterval: 1000 / frequency };
      const handles = await this.#start(
        (thread) => thread.startCpuProfile(options),
        () => v8.startCpuProfile(options),
      );
      await sleep(seconds * 1000, signal);
      return encodeProfile({
        values: [
          { type: "samples", unit: "count" },
          { type: "cpu", unit: "nanoseconds" },
        ],
        period: { type: "cpu", unit: "nanoseconds", amount: Math.round(1e9 / frequency) },
        startedAt,
        durationMs: Date.now() - startedAt,
        threads: await collect(handles, (json) => cpuSamples(JSON.parse(json) as CpuProfile)),
      });
    } finally {
      this.#busy = false;
    }
  }

  get heapActive(): boolean {
    return this.#heap !== undefined;
  }

  /** From now on a sample of all allocations is followed until they are freed. */
  async startHeap(): Promise<void> {
    const options = { sampleInterval: HEAP_INTERVAL, stackDepth: HEAP_DEPTH };
    this.#heap ??= {
      startedAt: Date.now(),
      handles: this.#start(
        (thread) => thread.startHeapProfile(options),
        () => v8.startHeapProfile(options),
      ),
    };
    await this.#heap.handles;
  }

  /** What is still alive of what was allocated since `startHeap`; ends the sampling. undefined: it was not active. */
  async stopHeap(): Promise<Uint8Array | undefined> {
    const heap = this.#heap;
    if (heap === undefined) return undefined;
    this.#heap = undefined;
    const threads = await collect(await heap.handles, (json) => heapSamples(JSON.parse(json) as HeapProfile));
    return encodeProfile({
      values: [
        { type: "inuse_objects", unit: "count" },
        { type: "inuse_space", unit: "bytes" },
      ],
      period: { type: "space", unit: "bytes", amount: HEAP_INTERVAL },
      startedAt: heap.startedAt,
      durationMs: Date.now() - heap.startedAt,
      threads,
    });
  }

  /** On every thread, or an error and on none. */
  async #start(onThread: (thread: ProfiledThread) => Promise<Handle>, onMain: () => Handle): Promise<Handles> {
    const named = this.#threads().map((thread, i) => [thread.threadName ?? `data-${i}`, onThread(thread)] as const);
    const results = await Promise.allSettled(named.map(([, started]) => started));
    const handles = new Map<string, Handle>();
    results.forEach((result, i) => {
      if (result.status === "fulfilled") handles.set(named[i]?.[0] ?? "", result.value);
    });
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) {
      await collect(handles, () => []);
      throw failed.reason;
    }
    return handles.set(MAIN, onMain());
  }
}

async function collect(
  handles: Handles,
  read: (json: string) => ProfileSample[],
): Promise<ReadonlyMap<string, readonly ProfileSample[]>> {
  const threads = await Promise.all(
    [...handles].map(async ([name, handle]) => [name, read(await handle.stop())] as const),
  );
  return new Map(threads);
}

function cpuSamples(profile: CpuProfile): ProfileSample[] {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const parents = new Map<number, number>();
  for (const node of profile.nodes) for (const child of node.children ?? []) parents.set(child, node.id);
  const totals = new Map<number, { count: number; nanoseconds: number }>();
  profile.samples.forEach((id, i) => {
    const total = totals.get(id) ?? { count: 0, nanoseconds: 0 };
    totals.set(id, total);
    total.count++;
    // Clocks of processors may differ a little: a negative difference counts as none.
    total.nanoseconds += Math.max(0, profile.timeDeltas[i] ?? 0) * 1000;
  });
  return [...totals].flatMap(([id, { count, nanoseconds }]) => {
    const stack: ProfileFrame[] = [];
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
      const node = nodes.get(at);
      if (node !== undefined) stack.unshift(node.callFrame);
    }
    if (stack.some(isWaiting)) return [];
    return [{ stack: stack.slice(1), values: [count, nanoseconds] }];
  });
}

function isWaiting({ functionName, url }: ProfileFrame): boolean {
  return functionName === IDLE || (functionName === WAIT.functionName && WAIT.file.test(url));
}

function heapSamples(profile: HeapProfile): ProfileSample[] {
  const counts = new Map<number, number>();
  for (const { nodeId } of profile.samples) counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1);
  const samples: ProfileSample[] = [];
  const pending: { readonly node: HeapNode; readonly stack: readonly ProfileFrame[] }[] = [
    { node: profile.head, stack: [] },
  ];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { node, stack } = next;
    if (node.selfSize > 0) samples.push({ stack, values: [counts.get(node.id) ?? 0, node.selfSize] });
    for (const child of node.children) pending.push({ node: child, stack: [...stack, child.callFrame] });
  }
  return samples;
}
