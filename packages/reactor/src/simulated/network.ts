import { createHash, type Hash } from "node:crypto";
import { isIpv6, isLoopback, type Random, type SocketAddress, seededRandom } from "@tulle/base";
import { EventQueue } from "./event-queue.ts";
import type { SimulatedListener } from "./listener.ts";
import type { SimulatedDatagramSocket } from "./datagram.ts";
import { SimulatedReactor } from "./reactor.ts";

/** How hostile the network is. Probabilities are per event, between 0 and 1; times are virtual milliseconds. */
export interface NetworkFaults {
  readonly minLatencyMs: number;
  readonly maxLatencyMs: number;
  /** A write is cut into segments of at most this many bytes, which arrive in order but one by one. */
  readonly maxSegment: number;
  /** What a connection holds in one direction, in flight and unread together, in bytes. */
  readonly capacity: number;
  readonly shortReads: number;
  readonly shortWrites: number;
  /** A segment is replaced by a reset of the connection. */
  readonly resets: number;
  /** A connect is refused, or times out, although somebody listens. */
  readonly connectFailures: number;
  /** accept fails with EMFILE; the connection stays in the backlog. */
  readonly acceptFailures: number;
  readonly datagramLoss: number;
}

export const CALM: NetworkFaults = {
  minLatencyMs: 0.05,
  maxLatencyMs: 0.2,
  maxSegment: 65_536,
  capacity: 262_144,
  shortReads: 0,
  shortWrites: 0,
  resets: 0,
  connectFailures: 0,
  acceptFailures: 0,
  datagramLoss: 0,
};

/** Where ztunnel's rules would send what the pods of a captured namespace open and receive. */
export interface Capture {
  readonly outboundPort: number;
  readonly inboundPlaintextPort: number;
  readonly inboundHbonePort: number;
}

/** A simulated network namespace: a pod or a node with its addresses. */
export class SimulatedNamespace {
  readonly key: string;
  readonly ips: readonly string[];
  /** Set while the pod is enrolled: unmarked connections are redirected (spec: l4-ztunnel §1.6). */
  capture: Capture | undefined;
  readonly listeners = new Map<number, SimulatedListener[]>();
  readonly datagrams = new Map<number, SimulatedDatagramSocket>();
  #nextPort = 32_768;

  constructor(key: string, ips: readonly string[]) {
    this.key = key;
    this.ips = ips;
  }

  /** Holding a simulated namespace open costs nothing. */
  close(): void {}

  owns(ip: string): boolean {
    return isLoopback(ip) || this.ips.includes(ip);
  }

  /** The address that a connection to `destination` comes from. */
  sourceFor(destination: string): string {
    if (isLoopback(destination)) return destination;
    const v6 = isIpv6(destination);
    return this.ips.find((ip) => isIpv6(ip) === v6) ?? (v6 ? "::1" : "127.0.0.1");
  }

  ephemeralPort(): number {
    const port = this.#nextPort;
    this.#nextPort = port >= 60_999 ? 32_768 : port + 1;
    return port;
  }
}

export interface Destination {
  readonly namespace: SimulatedNamespace;
  /** Where the kernel delivers it. */
  readonly port: number;
}

/**
 * A network in memory with virtual time. One seed decides every delay and every fault, so the same program on the same
 * seed sees the same bytes and events in the same order; `digest` proves it.
 */
export class SimulatedNetwork {
  faults: NetworkFaults;
  /** Sees every segment as it leaves: for invariants such as "nothing in the clear between two hosts". */
  onSegment: ((from: SimulatedNamespace, to: SimulatedNamespace, bytes: Uint8Array) => void) | undefined;
  readonly random: Random;
  readonly #events = new EventQueue();
  readonly #namespaces = new Map<string, SimulatedNamespace>();
  readonly #byIp = new Map<string, SimulatedNamespace>();
  readonly #reactors: SimulatedReactor[] = [];
  readonly #partitions: { readonly a: string; readonly b: string; until: number }[] = [];
  readonly #vanished = new Set<string>();
  readonly #hash: Hash = createHash("sha256");
  readonly #epoch: number;
  #now = 0;
  #ids = 0;
  #eventCount = 0;

  /** `epoch`: what `wall()` says at virtual time zero, in ms since the Unix epoch. */
  constructor(options: { readonly seed: number; readonly faults?: NetworkFaults; readonly epoch?: number }) {
    this.random = seededRandom(options.seed);
    this.faults = options.faults ?? CALM;
    this.#epoch = options.epoch ?? Date.UTC(2026, 0, 1);
  }

  get now(): number {
    return this.#now;
  }

  get wall(): number {
    return this.#epoch + Math.floor(this.#now);
  }

  namespace(key: string, ips: readonly string[]): SimulatedNamespace {
    const namespace = new SimulatedNamespace(key, ips);
    this.#namespaces.set(key, namespace);
    for (const ip of ips) this.#byIp.set(ip, namespace);
    return namespace;
  }

  /** An event loop whose own namespace is this one. */
  reactor(namespace: SimulatedNamespace): SimulatedReactor {
    const reactor = new SimulatedReactor(this, namespace);
    this.#reactors.push(reactor);
    return reactor;
  }

  /** Segments between the two namespaces arrive only after the partition is over: TCP sends them again. */
  partition(a: SimulatedNamespace, b: SimulatedNamespace, durationMs: number): void {
    this.record("partition", `${a.key} ${b.key} ${durationMs}`);
    this.#partitions.push({ a: a.key, b: b.key, until: this.#now + durationMs });
  }

  /** A host without power: nothing of it or to it arrives any more, and nobody is told. */
  vanish(namespace: SimulatedNamespace): void {
    this.record("vanish", namespace.key);
    this.#vanished.add(namespace.key);
  }

  /** Runs every reactor until `done`, or until virtual time is up. Returns whether `done` held. */
  run(durationMs: number, done: () => boolean): boolean {
    const deadline = this.#now + durationMs;
    for (;;) {
      let worked = false;
      for (const reactor of this.#reactors) worked = reactor.turn(0) > 0 || worked;
      if (done()) return true;
      if (!worked && !this.advance(deadline)) return false;
    }
  }

  /** SHA-256 over every byte that was sent and every event so far, as hex. */
  digest(): string {
    return this.#hash.copy().digest("hex");
  }

  get eventCount(): number {
    return this.#eventCount;
  }

  // === for the reactors

  nextId(): number {
    return ++this.#ids;
  }

  record(kind: string, detail: string, bytes?: Uint8Array): void {
    this.#eventCount++;
    this.#hash.update(`${this.#now.toFixed(6)} ${kind} ${detail}\n`);
    if (bytes !== undefined) this.#hash.update(bytes);
  }

  schedule(delayMs: number, run: () => void): { cancel(): void } {
    return this.#events.add(this.#now + delayMs, run);
  }

  /** At an absolute time: two events for the same instant stay in order, which `now + (at - now)` would not promise. */
  scheduleAt(at: number, run: () => void): { cancel(): void } {
    return this.#events.add(at, run);
  }

  /** Runs the next event, if it comes before the deadline; else time goes on to the deadline. */
  advance(deadline: number): boolean {
    const event = this.#events.takeBefore(deadline);
    if (event === undefined) {
      this.#now = Math.max(this.#now, deadline);
      return false;
    }
    this.#now = Math.max(this.#now, event.at);
    event.run();
    return true;
  }

  /** When something that leaves now arrives; Infinity: never. */
  arrival(from: SimulatedNamespace, to: SimulatedNamespace, notBefore: number): number {
    if (this.#vanished.has(from.key) || this.#vanished.has(to.key)) return Number.POSITIVE_INFINITY;
    const { minLatencyMs, maxLatencyMs } = this.faults;
    let at = Math.max(notBefore, this.#now + minLatencyMs + this.random() * (maxLatencyMs - minLatencyMs));
    for (const { a, b, until } of this.#partitions) {
      const between = (a === from.key && b === to.key) || (b === from.key && a === to.key);
      if (between && until > at) at = until + this.random() * maxLatencyMs;
    }
    return at;
  }

  happens(probability: number): boolean {
    return probability > 0 && this.random() < probability;
  }

  /** Where the kernel would take a connection: to its address, or to ztunnel by the rules of either end. */
  route(from: SimulatedNamespace, to: SocketAddress, marked: boolean): Destination | undefined {
    if (isLoopback(to.ip)) return { namespace: from, port: to.port };
    const namespace = this.#byIp.get(to.ip);
    if (namespace === from) return { namespace, port: to.port };
    if (from.capture !== undefined && !marked) return { namespace: from, port: from.capture.outboundPort };
    if (namespace === undefined) return undefined;
    const capture = namespace.capture;
    if (capture === undefined || to.port === capture.inboundHbonePort) return { namespace, port: to.port };
    return { namespace, port: capture.inboundPlaintextPort };
  }

  /** The namespace that a bare address belongs to. */
  owner(ip: string): SimulatedNamespace | undefined {
    return this.#byIp.get(ip);
  }
}
