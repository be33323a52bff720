import { type Log, messageOf, sleep } from "@tulle/base";
import type { LabNamespace } from "@tulle/lab";
import {
  applyPodRules,
  installGuard,
  NetNamespace,
  type PodRuleOptions,
  removeGuard,
  removePodRules,
  verifyPodRules,
} from "@tulle/linux";
import { type AgentPod, ZdsServer } from "@tulle/zds";
import type { Pod } from "../objects/pod.ts";
import type { PodMesh } from "../runtime/pod-environment.ts";

/** One node's agent: puts pods into the mesh and takes them out, and tells the node's ztunnel of them over ZDS. */

export interface NodeAgentOptions {
  /** Path of the ZDS socket, in a folder that only root can enter. */
  readonly socket: string;
  readonly ipv6: boolean;
  readonly log: Log;
  /** Resolves when every ztunnel has taken in what was last said of the pods, or after a while. */
  readonly announced: () => Promise<void>;
}

interface Enrolled extends AgentPod {
  readonly namespace: NetNamespace;
}

/** Captured connections may go on for so long after a pod has left the mesh; then its ztunnel lets go of them. */
const DRAIN_DEADLINE_MS = 10_000;
/** And so long until the last of them must be gone. */
const RELEASE_DEADLINE_MS = 5000;
const DRAIN_POLL_MS = 200;

export class NodeAgent implements PodMesh {
  readonly #options: NodeAgentOptions;
  readonly #rules: PodRuleOptions;
  readonly #zds: ZdsServer;
  readonly #enrolled = new Map<string, Enrolled>();

  /** Listens at once. Throws SystemError. */
  constructor(options: NodeAgentOptions) {
    this.#options = options;
    // Probes come from inside the pod: no address is let past ztunnel.
    this.#rules = { ipv6: options.ipv6, probeIps: [] };
    this.#zds = new ZdsServer({
      path: options.socket,
      log: options.log,
      snapshot: () => [...this.#enrolled.values()],
    });
  }

  async enrol(pod: Pod, namespace: LabNamespace, fresh: boolean): Promise<void> {
    // A pod that has never run: nothing may leave it before it is captured. One that runs must not lose a connection:
    // ztunnel listens first.
    if (fresh) {
      await installGuard(namespace.path);
      await this.#capture(namespace);
      await this.#announce(pod, namespace);
      await removeGuard(namespace.path);
      return;
    }
    await this.#announce(pod, namespace);
    await this.#capture(namespace);
  }

  async withdraw(pod: Pod, namespace: LabNamespace): Promise<void> {
    const { uid } = pod.metadata;
    // Others stop sending HBONE to the pod before it stops understanding it.
    await this.#options.announced();
    let left = await removePodRules(namespace.path);
    const drained = performance.now() + DRAIN_DEADLINE_MS;
    while (left > 0 && performance.now() < drained) {
      await sleep(DRAIN_POLL_MS);
      left = await removePodRules(namespace.path);
    }
    await this.#release(uid);
    const released = performance.now() + RELEASE_DEADLINE_MS;
    while (left > 0 && performance.now() < released) {
      await sleep(DRAIN_POLL_MS);
      left = await removePodRules(namespace.path);
    }
    if (left > 0) throw new Error(`${left} captured connections have not ended`);
  }

  async forget(pod: Pod): Promise<void> {
    await this.#release(pod.metadata.uid).catch((error: unknown) =>
      this.#options.log.warn(`forgetting ${pod.metadata.name}: ${messageOf(error)}`),
    );
  }

  close(): void {
    this.#zds.close();
    for (const { namespace } of this.#enrolled.values()) namespace.close();
    this.#enrolled.clear();
  }

  async #capture(namespace: LabNamespace): Promise<void> {
    const { notes } = await applyPodRules(namespace.path, this.#rules);
    for (const note of notes) this.#options.log.warn(`${namespace.label}: ${note}`);
    const verdict = await verifyPodRules(namespace.path, this.#rules);
    if (!verdict.ok) throw new Error(`the rules are not as they should be: ${verdict.differences.join("; ")}`);
  }

  /** Rejects until the node's ztunnel serves the pod. */
  async #announce(pod: Pod, namespace: LabNamespace): Promise<void> {
    const { uid, name, namespace: home } = pod.metadata;
    let known = this.#enrolled.get(uid);
    if (known === undefined) {
      const info = { name, namespace: home, serviceAccount: pod.spec.serviceAccountName };
      known = { uid, info, namespace: NetNamespace.open(namespace.path) };
      this.#enrolled.set(uid, known);
    }
    await this.#zds.add(known);
  }

  async #release(uid: string): Promise<void> {
    const known = this.#enrolled.get(uid);
    if (known === undefined) return;
    this.#enrolled.delete(uid);
    try {
      await this.#zds.del(uid);
    } finally {
      known.namespace.close();
    }
  }
}
