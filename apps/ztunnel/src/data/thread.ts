import type { MeshError } from "@tulle/base";
import { ChangeCodec, MeshState, type PolicyScope } from "@tulle/mesh";
import type { Namespace, Reactor } from "@tulle/reactor";
import type { DataTelemetry, TulleGauge } from "@tulle/telemetry";
import type { Command, DataSettings, Report } from "../protocol.ts";
import type { ConnectionTable } from "./borrowed-ports.ts";
import { parseCidrs, type ThreadContext } from "./context.ts";
import { createLookup } from "./dns/lookup.ts";
import { failure } from "./failures.ts";
import { type CreateContext, IdentityStore } from "./identity-store.ts";
import { OnDemand } from "./on-demand.ts";
import { PodProxy } from "./pod-proxy.ts";
import { Waiters } from "./waiters.ts";

export interface DataThreadParts {
  readonly settings: DataSettings;
  readonly reactor: Reactor;
  readonly telemetry: DataTelemetry;
  readonly podCounters: Int32Array;
  readonly createContext: CreateContext;
  /** A handle of its own for the namespace behind a descriptor that the main thread lends. */
  readonly adoptNamespace: (descriptor: number) => Namespace & { close(): void };
  /** What connections there are in a namespace; undefined: nobody can say. */
  readonly openConnections?: (namespace: Namespace) => ConnectionTable;
  readonly report: (report: Report) => void;
}

const NO_GAUGES: Readonly<Record<TulleGauge, number>> = {
  pool_connections: 0,
  pool_tunnels: 0,
  unauthenticated_connections: 0,
  buffered_bytes: 0,
};
const GAUGES = Object.keys(NO_GAUGES) as readonly TulleGauge[];

/** How often byte counters of open connections are brought up to date. */
const PROGRESS_MS = 1000;

/**
 * One data thread: its copy of the mesh's state, its TLS contexts and its pods. It is driven by commands and by the
 * reactor; it knows nothing of workers, so that the simulator runs it too.
 */
export class DataThread {
  readonly #parts: DataThreadParts;
  readonly #context: ThreadContext;
  readonly #codec = new ChangeCodec();
  readonly #proxies = new Map<string, PodProxy>();
  /** What the batch of changes that is being applied asks for. */
  readonly #moved = new Set<string>();
  readonly #changedScopes: PolicyScope[] = [];
  #gauges = NO_GAUGES;
  #exit = false;

  constructor(parts: DataThreadParts) {
    this.#parts = parts;
    const { reactor, settings, telemetry, podCounters } = parts;
    this.#context = {
      reactor,
      settings,
      telemetry,
      podCounters,
      state: new MeshState(),
      identities: new IdentityStore({
        reactor,
        create: parts.createContext,
        request: (uri) => parts.report({ kind: "need-identity", uri }),
      }),
      waiters: new Waiters(reactor),
      meshCidrs: parseCidrs(settings.meshCidrs),
      onDemand: settings.onDemand ? new OnDemand((name) => parts.report({ kind: "need-address", name })) : undefined,
      openConnections: parts.openConnections,
      lookup: createLookup(reactor, settings.dns),
    };
    this.#context.state.observe({
      onAddressMoved: (_network, ip) => this.#moved.add(ip),
      onPoliciesChanged: (scope) => this.#changedScopes.push(scope),
    });
    this.#scheduleProgress();
  }

  get exiting(): boolean {
    return this.#exit;
  }

  handle(command: Command): void {
    switch (command.kind) {
      case "changes":
        this.#apply(command.changes);
        return this.#parts.report({ kind: "applied", sequence: command.sequence });
      case "start-proxy":
        return this.#startProxy(command);
      case "stop-proxy": {
        const done = () => this.#parts.report({ kind: "done", request: command.request, error: undefined });
        return this.#stopProxy(command.uid, command.mode, DEFAULT_DEADLINE_MS, done);
      }
      case "identity":
        return this.#context.identities.provide(command.uri, command.material);
      case "identity-failed":
        return this.#context.identities.fail(command.uri, command.reason);
      case "identity-forgotten":
        return this.#context.identities.forget(command.uri);
      case "address-answered":
        this.#context.onDemand?.answer(command.name);
        return this.#context.waiters.retryAll();
      case "connections":
        return this.#parts.report({
          kind: "connections",
          request: command.request,
          proxies: [...this.#proxies.values()].map((proxy) => proxy.connections()),
        });
      case "drain":
        return this.#drain(command.deadlineMs);
      case "throw":
        throw new Error("a data thread was told to throw");
      case "exit":
        this.#exit = true;
        return;
      default:
        command satisfies never;
    }
  }

  /** Closes everything at once. */
  close(): void {
    for (const uid of [...this.#proxies.keys()]) this.#stopProxy(uid, "immediate", 0, () => {});
    this.#context.identities.close();
  }

  #apply(encoded: readonly Uint8Array[]): void {
    const { state, waiters } = this.#context;
    for (const bytes of encoded) state.apply(this.#codec.decode(bytes));
    for (const ip of this.#moved) this.#dropAddress(ip);
    this.#moved.clear();
    const scopes = this.#changedScopes.splice(0);
    if (scopes.length > 0) for (const proxy of this.#proxies.values()) proxy.reevaluate(scopes);
    waiters.retryAll();
  }

  #dropAddress(ip: string): void {
    const error: MeshError = failure(
      "ADDRESS_MOVED",
      "upstream",
      `connection failed: ${ip} belongs to another workload now`,
    );
    for (const proxy of this.#proxies.values()) proxy.dropAddress(ip, error);
  }

  #startProxy(command: Extract<Command, { kind: "start-proxy" }>): void {
    let error: string | undefined;
    try {
      const proxy = new PodProxy({
        context: this.#context,
        kind: command.proxy,
        uid: command.uid,
        workload: command.workload,
        // Fails when descriptors have run out: this pod is refused then, the others go on.
        namespace: command.namespace === undefined ? undefined : this.#parts.adoptNamespace(command.namespace),
        slot: command.slot,
      });
      proxy.start();
      this.#proxies.set(command.uid, proxy);
    } catch (caught) {
      error = caught instanceof Error ? caught.message : String(caught);
    }
    this.#parts.report({ kind: "done", request: command.request, error });
  }

  #stopProxy(uid: string, mode: "graceful" | "immediate", deadlineMs: number, done: () => void): void {
    const proxy = this.#proxies.get(uid);
    if (proxy === undefined) return done();
    proxy.stop(mode, deadlineMs, () => {
      if (this.#proxies.get(uid) === proxy) this.#proxies.delete(uid);
      done();
    });
  }

  #drain(deadlineMs: number): void {
    let left = this.#proxies.size;
    const done = () => {
      left--;
      if (left <= 0) this.#parts.report({ kind: "drained" });
    };
    if (left === 0) return done();
    for (const uid of [...this.#proxies.keys()]) this.#stopProxy(uid, "graceful", deadlineMs, done);
  }

  #scheduleProgress(): void {
    this.#parts.reactor.after(PROGRESS_MS, () => {
      for (const proxy of this.#proxies.values()) proxy.progress();
      this.#updateGauges();
      this.#scheduleProgress();
    });
  }

  #updateGauges(): void {
    const now = { ...NO_GAUGES };
    for (const proxy of this.#proxies.values()) {
      const { connections, tunnels } = proxy.poolSize;
      now.pool_connections += connections;
      now.pool_tunnels += tunnels;
      now.unauthenticated_connections += proxy.admission.total;
      now.buffered_bytes += proxy.budget.bytesHeldHere;
    }
    const { telemetry } = this.#context;
    for (const gauge of GAUGES) telemetry.gauge(gauge, now[gauge] - this.#gauges[gauge]);
    this.#gauges = now;
  }
}

/** Graceful end of a single pod, when nobody says how long: CONNECTION_TERMINATION_DEADLINE's default. */
const DEFAULT_DEADLINE_MS = 5000;
