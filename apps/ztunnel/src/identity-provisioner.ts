import { formatIdentity, type Identity, type Log, messageOf, parseIdentity } from "@tulle/base";
import { type MeshState, type Workload, workloadIdentity } from "@tulle/mesh";
import type { IdentityStore, WorkloadCertificate } from "@tulle/pki";
import type { DataThreads } from "./data-threads.ts";

/** What of the data threads it needs. */
export type IdentityReceiver = Pick<DataThreads, "provideIdentity" | "failIdentity" | "forgetIdentity">;

/**
 * Brings certificates from where they are kept to the threads that use them: on demand for a handshake that waits, again
 * at every renewal, ahead for the workloads of this node, and away when the last of an identity has left it
 * (spec: l4-ztunnel §5.6).
 */
export class IdentityProvisioner {
  readonly #store: IdentityStore;
  readonly #threads: IdentityReceiver;
  readonly #log: Log;
  /** Identities that the threads hold: they get every renewal. */
  readonly #held = new Set<string>();
  /** Workloads of this node by identity. */
  readonly #local = new Map<string, Set<string>>();
  readonly #stop: (() => void)[] = [];

  constructor(options: {
    readonly store: IdentityStore;
    readonly threads: IdentityReceiver;
    readonly log: Log;
    /** Fetch ahead and forget for the workloads of this node; undefined: only on demand (dedicated mode). */
    readonly prefetch: { readonly state: MeshState; readonly nodeName: string } | undefined;
  }) {
    const { store, threads, log, prefetch } = options;
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
    if (certificate !== undefined && this.#held.has(uri)) this.#provide(uri, certificate);
  }

  #onWorkload(nodeName: string, previous: Workload | undefined, current: Workload | undefined): void {
    if (previous !== undefined) this.#leave(previous);
    if (current === undefined || current.node !== nodeName) return;
    if (current.protocol !== "HBONE" && !current.nativeTunnel) return;
    const identity = workloadIdentity(current);
    const uri = formatIdentity(identity);
    const users = this.#local.get(uri) ?? new Set();
    users.add(current.uid);
    this.#local.set(uri, users);
    this.#store.warm(identity);
  }

  #leave(workload: Workload): void {
    const identity = workloadIdentity(workload);
    const uri = formatIdentity(identity);
    const users = this.#local.get(uri);
    if (users?.delete(workload.uid) !== true || users.size > 0) return;
    this.#local.delete(uri);
    // A change of the same workload comes as a departure and an arrival: look again when both are through.
    queueMicrotask(() => {
      if (this.#local.has(uri)) return;
      this.#log.debug("forget certificate", { identity: uri });
      this.#held.delete(uri);
      this.#store.forget(identity);
      this.#threads.forgetIdentity(uri);
    });
  }
}
