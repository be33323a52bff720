import type { DataLimits } from "../protocol.ts";

/**
 * What one pod may use of the node, counted over all data threads: a slot of shared atomic counters per pod, so that one
 * pod cannot starve the others. Two 32-bit words a slot: connections, buffered bytes.
 */
export class PodBudget {
  readonly #counters: Int32Array;
  readonly #base: number;
  readonly #limits: DataLimits;
  readonly #onRefused: () => void;
  #heldHere = 0;

  /** `onRefused`: bytes were refused, so a slow reader is about to be cut. */
  constructor(counters: Int32Array, slot: number, limits: DataLimits, onRefused: () => void = () => {}) {
    this.#counters = counters;
    this.#base = slot * WORDS_PER_SLOT;
    this.#limits = limits;
    this.#onRefused = onRefused;
  }

  /** Bytes that this thread holds of it. */
  get bytesHeldHere(): number {
    return this.#heldHere;
  }

  /** Counts one connection; false (and nothing counted) when the pod has as many as it may. */
  takeConnection(): boolean {
    if (Atomics.add(this.#counters, this.#base + CONNECTIONS, 1) < this.#limits.connectionsPerPod) return true;
    this.giveConnection();
    return false;
  }

  giveConnection(): void {
    Atomics.sub(this.#counters, this.#base + CONNECTIONS, 1);
  }

  /** Counts `bytes` held for a slow reader; false (and nothing counted) when that would be more than the pod may hold. */
  tryTake(bytes: number): boolean {
    const before = Atomics.add(this.#counters, this.#base + BUFFERED, bytes);
    this.#heldHere += bytes;
    if (before + bytes <= this.#limits.bufferedBytesPerPod) return true;
    this.give(bytes);
    this.#onRefused();
    return false;
  }

  give(bytes: number): void {
    this.#heldHere -= bytes;
    Atomics.sub(this.#counters, this.#base + BUFFERED, bytes);
  }

  get connections(): number {
    return Atomics.load(this.#counters, this.#base + CONNECTIONS);
  }

  get bufferedBytes(): number {
    return Atomics.load(this.#counters, this.#base + BUFFERED);
  }
}

/** Pods per node that can be enrolled at a time: Kubernetes allows 110 a node by default and 500 at most in practice. */
export const MAX_PODS = 4096;

/** Counters for MAX_PODS pods, to be shared with every data thread. */
export function createPodCounters(): SharedArrayBuffer {
  return new SharedArrayBuffer(MAX_PODS * WORDS_PER_SLOT * Int32Array.BYTES_PER_ELEMENT);
}

const WORDS_PER_SLOT = 2;
const CONNECTIONS = 0;
const BUFFERED = 1;

/** Connections that have not authenticated yet, on one listener of one thread: in total and by source address. */
export class AdmissionControl {
  readonly #limits: DataLimits;
  readonly #bySource = new Map<string, number>();
  #total = 0;

  constructor(limits: DataLimits) {
    this.#limits = limits;
  }

  /** Undefined: counted. Else (and nothing counted) what has too many in flight. */
  enter(source: string): "listener" | "source" | undefined {
    const mine = this.#bySource.get(source) ?? 0;
    if (this.#total >= this.#limits.unauthenticatedPerListener) return "listener";
    if (mine >= this.#limits.unauthenticatedPerSource) return "source";
    this.#total++;
    this.#bySource.set(source, mine + 1);
    return undefined;
  }

  leave(source: string): void {
    const mine = this.#bySource.get(source) ?? 0;
    if (mine === 0) return;
    this.#total--;
    if (mine === 1) this.#bySource.delete(source);
    else this.#bySource.set(source, mine - 1);
  }

  get total(): number {
    return this.#total;
  }
}
