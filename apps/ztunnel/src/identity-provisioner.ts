import { formatIdentity, type Identity, type Log, messageOf, parseIdentity, sleep } from "@tulle/base";
import { type MeshState, type Workload, workloadIdentity } from "@tulle/mesh";
import type { IdentityStore, WorkloadCertificate } from "@tulle/pki";
import type { DataThreads } from "./data-threads.ts";

/**
 * How long a pod that joins is kept waiting for its certificate, milliseconds: the node agent waits 5 s for its answer. A pod
 * whose first connections find none would fail; one that is kept out for long passes traffic that should be encrypted.
 */
const JOIN_WAIT_MS = 2000;
/** The control plane may hear of a pod's label a moment after the node agent. */
const JOIN_RETRY_MS = 50;

/** What of the data threads it needs. */
export type IdentityReceiver = Pick<DataThreads, "provideIdentity" | "failIdentity" | "forgetIdentity">;

/**
 * Brings certificates from where they are kept to the threads that use them: on demand for a handshake that waits, again
 * at every renewal, ahead for the workloads of this node and for pods that are served, and away when the last of an identity
 * has left it (spec: l4-ztunnel §5.6).
 */
export class IdentityProvisioner {
  readonly #store: IdentityStore;
  readonly #threads: IdentityReceiver;
  readonly #log: Log;
  readonly #joinWaitMs: number;
  /** Identities that the threads hold: they get every renewal. */
  readonly #held = new Set<string>();
  /** Who needs an identity: workloads of this node that speak HBONE, and pods that are served. */
  readonly #users = new Map<string, Set<string>>();
  /** Identities of pods that are served, by uid. */
  readonly #served = new Map<string, Identity>();
  /** The last wait was in vain, and no certificate has come since: nobody else is kept waiting. */
  #outage = false;
  readonly #stop: (() => void)[] = [];

  constructor(options: {
    readonly store: IdentityStore;
    readonly threads: IdentityReceiver;
    readonly log: Log;
    /** Fetch ahead and forget for the workloads of this node; undefined: only on demand (dedicated mode). */
    readonly prefetch: { readonly state: MeshState; readonly nodeName: string } | undefined;
    /** How long a pod that joins waits for its certificate at most. Default 2 s. */
    readonly joinWaitMs?: number;
  }) {
    const { store, threads, log, prefetch, joinWaitMs = JOIN_WAIT_MS } = options;
    this.#joinWaitMs = joinWaitMs;
    this.#store = store;
    this.#threads = threads;
    this.#log = log;
    this.#stop.push(store.subscribe((identity, certificate) => this.#onCertificate(identity, certificate)));
    if (prefetch === undefined) return;
    const { state, nodeName } = prefetch;
    this.#stop.push(
      state.observe({ onWorkloadChanged: (previous, current) => this.#onWorkload(nodeName, previous, current) }),
    );
  }

  /** A handshake waits for it. */
  async need(uri: string): Promise<void> {
    const identity = parseIdentity(uri);
    if (identity === undefined) return this.#threads.failIdentity(uri, `${uri} is not a workload identity`);
    try {
      this.#provide(uri, await this.#store.get(identity, "realtime"));
    } catch (error) {
      this.#threads.failIdentity(uri, messageOf(error));
    }
  }

  /**
   * A pod is served from now on, and its identity stays until `release`: one that leaves the mesh is connected to, and
   * connects, until everybody knows, although it is no HBONE workload any more.
   */
  serve(uid: string, identity: Identity): void {
    this.release(uid);
    this.#served.set(uid, identity);
    this.#join(identity, servedUser(uid));
  }

  release(uid: string): void {
    const identity = this.#served.get(uid);
    if (identity === undefined) return;
    this.#served.delete(uid);
    this.#leave(identity, servedUser(uid));
  }

  /** Resolves when the threads hold the certificate of a pod that is served, or when waiting for it has to end. */
  async whenReady(uid: string): Promise<void> {
    const identity = this.#served.get(uid);
    if (identity === undefined) return;
    const uri = formatIdentity(identity);
    const deadline = performance.now() + (this.#outage ? 0 : this.#joinWaitMs);
    while (this.#served.get(uid) === identity && !this.#held.has(uri)) {
      const left = deadline - performance.now();
      if (left <= 0) {
        if (!this.#outage)
          this.#log.warn("a pod joins without its certificate", { identity: uri, after: `${JOIN_WAIT_MS}ms` });
        this.#outage = true;
        return;
      }
      const late = new AbortController();
      // Why it was refused is the store's to log; here it only means: not yet.
      const certificate = this.#store.get(identity, "realtime").catch(() => undefined);
      const come = await Promise.race([certificate, sleep(left, late.signal)]);
      late.abort();
      if (come === undefined) await sleep(JOIN_RETRY_MS);
      else if (this.#served.get(uid) === identity) this.#provide(uri, come);
    }
  }

  close(): void {
    for (const stop of this.#stop) stop();
  }

  #provide(uri: string, certificate: WorkloadCertificate): void {
    this.#held.add(uri);
    const material = certificate.material();
    this.#threads.provideIdentity(uri, { ...material, notAfter: certificate.notAfter });
    material.privateKey.fill(0);
  }

  #onCertificate(identity: Identity, certificate: WorkloadCertificate | undefined): void {
    const uri = formatIdentity(identity);
    if (certificate === undefined) return;
    this.#outage = false;
    if (this.#held.has(uri)) this.#provide(uri, certificate);
  }

  #onWorkload(nodeName: string, previous: Workload | undefined, current: Workload | undefined): void {
    if (previous !== undefined) this.#leave(workloadIdentity(previous), previous.uid);
    if (current === undefined || current.node !== nodeName) return;
    if (current.protocol !== "HBONE" && !current.nativeTunnel) return;
    this.#join(workloadIdentity(current), current.uid);
  }

  #join(identity: Identity, user: string): void {
    const uri = formatIdentity(identity);
    const users = this.#users.get(uri) ?? new Set();
    users.add(user);
    this.#users.set(uri, users);
    this.#store.warm(identity);
  }

  #leave(identity: Identity, user: string): void {
    const uri = formatIdentity(identity);
    const users = this.#users.get(uri);
    if (users?.delete(user) !== true || users.size > 0) return;
    this.#users.delete(uri);
    // A change of the same workload comes as a departure and an arrival: look again when both are through.
    queueMicrotask(() => {
      if (this.#users.has(uri)) return;
      this.#log.debug("forget certificate", { identity: uri });
      this.#held.delete(uri);
      this.#store.forget(identity);
      this.#threads.forgetIdentity(uri);
    });
  }
}

function servedUser(uid: string): string {
  return `served ${uid}`;
}
