import { type Log, messageOf, sleep } from "@tulle/base";
import type { Store } from "@tulle/store";
import type { Images } from "../resources/images.ts";
import { type Container, keyOf } from "../resources/kinds.ts";
import { type AddressPair, type AddressPlan, NumberPool, PODS_PER_NODE } from "./addresses.ts";
import { ADDRESSES_ANNOTATION, type Pod, PODS, type PodStatus } from "./pod.ts";
import {
  deploymentOf,
  fromDeployment,
  placedPod,
  type ResolvedContainer,
  resolveContainers,
  type WantedPod,
} from "./pod-template.ts";
import { Reconciler } from "./reconciler.ts";
import { planReplicas } from "./replicas.ts";
import { StatusWriter } from "./status-writer.ts";
import type { Objects } from "./view.ts";

/** A pod that runs, whoever runs it. */
export interface PodHandle {
  /** Resolves when none of its processes is left. */
  stop(graceMs: number): Promise<void>;
  /** Resolves when nothing of the pod is left on the machine. After `stop`. */
  remove(): Promise<void>;
}

export interface PodStart {
  readonly pod: Pod;
  readonly containers: readonly ResolvedContainer[];
  readonly address: AddressPair;
  readonly hostIP: string;
  /** A number that no other pod of this run has, for names and user ids. */
  readonly serial: number;
  readonly report: (status: PodStatus) => void;
}

/** A pod that is not in the user's directory: part of the mesh itself. */
export interface SystemPod {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccountName: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly container: Container;
  readonly appFolder: string;
}

export interface SchedulerOptions {
  readonly plan: AddressPlan;
  readonly store: Pick<Store, "apply" | "create" | "patch" | "delete">;
  readonly objects: () => Objects;
  readonly images: () => Images;
  readonly systemPods: readonly SystemPod[];
  readonly start: (pod: PodStart) => PodHandle;
  readonly log: Log;
}

interface PodRecord {
  pod: Pod;
  /** Key of the Deployment; undefined: the mesh's own. */
  readonly owner: string | undefined;
  readonly handle: PodHandle;
  readonly writer: StatusWriter;
  ending: boolean;
}

/** Kubernetes gives a process 30 s to end by itself, which is longer than anybody wants to wait at a terminal. */
const DEFAULT_GRACE_SECONDS = 3;
const RETRY_MS = 500;

/**
 * Plays scheduler and the Deployments' controller: turns what they ask for into pods with a node and addresses, which it has
 * started through `start`. It knows nothing of Linux. Pods that an earlier run has left in the store are taken up again as
 * they were, with uid, node and addresses.
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #records = new Map<string, PodRecord>();
  readonly #podNumbers: readonly NumberPool[];
  readonly #complaints = new Set<string>();
  readonly #reconciler: Reconciler;
  #serial = 0;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#reconciler = new Reconciler({
      work: () => this.#reconcile(),
      complaint: "pods are not as they should be yet",
      log: options.log,
    });
    this.#podNumbers = options.plan.nodes.map(() => new NumberPool(PODS_PER_NODE));
  }

  /** Before anything else: takes up the pods of an earlier run; those that fit no more are deleted. */
  async adopt(pods: readonly Pod[]): Promise<void> {
    const { store, plan, objects } = this.#options;
    const owners = new Set(objects().deployments.map(keyOf));
    for (const pod of pods) {
      const { nodes } = plan;
      const [v4 = "", v6] = (pod.metadata.annotations?.[ADDRESSES_ANNOTATION] ?? "").split(",");
      const index = nodes.findIndex(({ name }) => name === pod.spec.nodeName);
      const number = nodes[index]?.podNumber({ v4, v6 });
      const known = this.#isSystem(pod) || owners.has(deploymentOf(pod) ?? "");
      const fits = known && pod.metadata.deletionTimestamp === undefined && number !== undefined;
      if (fits && this.#podNumbers[index]?.adopt(keyOf(pod), number) === true) this.#start(pod, { v4, v6 });
      else await store.delete(PODS, pod.metadata);
    }
  }

  /** Something may have changed: pods come and go afterwards. */
  reconcile(): void {
    this.#reconciler.poke();
  }

  /** Ends every pod at once; their objects stay. */
  async close(): Promise<void> {
    await this.#reconciler.close();
    await Promise.all(
      [...this.#records.values()].map(async ({ handle, writer }) => {
        await handle.stop(0);
        await Promise.all([handle.remove(), writer.close()]);
      }),
    );
  }

  async #reconcile(): Promise<void> {
    const { objects, images, systemPods } = this.#options;
    const { deployments, pods } = objects();
    this.#learn(pods);
    for (const system of systemPods) await this.#ensureSystemPod(system);
    const owners = new Set(deployments.map(keyOf));
    for (const record of this.#records.values()) {
      if (record.owner !== undefined && !owners.has(record.owner)) this.#remove(record);
    }
    for (const deployment of deployments) {
      const owner = keyOf(deployment);
      const own = [...this.#records.values()].filter((record) => record.owner === owner).map(({ pod }) => pod);
      const { create, remove } = planReplicas(deployment, images(), own);
      for (const pod of remove) {
        const record = this.#records.get(keyOf(pod));
        if (record !== undefined) this.#remove(record);
      }
      for (const planned of create) await this.#create(fromDeployment(deployment, planned));
    }
  }

  /** What others have written on the pods meanwhile. */
  #learn(pods: readonly Pod[]): void {
    for (const pod of pods) {
      const record = this.#records.get(keyOf(pod));
      if (record === undefined || record.pod.metadata.uid !== pod.metadata.uid) continue;
      // The store may be a little behind what was decided here.
      if (record.ending && pod.metadata.deletionTimestamp === undefined) continue;
      record.pod = pod;
    }
  }

  async #ensureSystemPod(system: SystemPod): Promise<void> {
    const { namespace, name, labels, serviceAccountName, container } = system;
    if (this.#records.has(`${namespace}/${name}`)) return;
    await this.#create({
      metadata: { name, namespace, labels },
      spec: { serviceAccountName, containers: [container] },
    });
  }

  async #create(wanted: WantedPod): Promise<void> {
    const { store, plan } = this.#options;
    const key = keyOf(wanted);
    const place = this.#place(key);
    if (place === undefined) {
      this.#complain(
        `pod ${key}: all ${plan.nodes.length} nodes hold ${PODS_PER_NODE} pods already; it is not started`,
      );
      return;
    }
    try {
      this.#start(await store.create(PODS, placedPod(wanted, place)), place.address);
    } catch (error) {
      this.#releaseNumber(key);
      throw error;
    }
  }

  #start(pod: Pod, address: AddressPair): void {
    const { start, images, systemPods, plan, store, log } = this.#options;
    const key = keyOf(pod);
    const system = systemPods.find(({ namespace, name }) => key === `${namespace}/${name}`);
    const hostIP = plan.nodes.find(({ name }) => name === pod.spec.nodeName)?.address.v4 ?? "";
    const containers = resolveContainers(pod, { address, hostIP }, images(), system?.appFolder);
    const writer = new StatusWriter({ store, kind: PODS, about: pod, log });
    const handle = start({
      ...{ pod, containers, address, hostIP, serial: this.#serial++ },
      report: (status) => writer.set(status),
    });
    this.#records.set(key, { pod, owner: deploymentOf(pod), handle, writer, ending: false });
  }

  /** The node with the fewest pods, the first of equals: round-robin while nothing is removed. */
  #place(key: string): { readonly nodeName: string; readonly address: AddressPair } | undefined {
    const { nodes } = this.#options.plan;
    const load = (name: string) => [...this.#records.values()].filter(({ pod }) => pod.spec.nodeName === name).length;
    const order = nodes.map((node, index) => ({ node, index, load: load(node.name) })).sort((a, b) => a.load - b.load);
    for (const { node, index } of order) {
      const number = this.#podNumbers[index]?.take(key);
      if (number !== undefined) return { nodeName: node.name, address: node.podAddress(number) };
    }
    return undefined;
  }

  #remove(record: PodRecord): void {
    if (record.ending) return;
    record.ending = true;
    const { metadata, spec } = record.pod;
    const deletionTimestamp = `${new Date().toISOString().slice(0, 19)}Z`;
    record.pod = { ...record.pod, metadata: { ...metadata, deletionTimestamp } };
    const grace = (spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS) * 1000;
    void this.#end(record, deletionTimestamp, grace).catch((error: unknown) =>
      this.#options.log.error(`pod ${keyOf(record.pod)} does not go: ${messageOf(error)}`),
    );
  }

  /** As the kubelet does: marked, ended, deleted; what it had of the machine goes last, when nobody counts on it any more. */
  async #end({ pod, handle, writer }: PodRecord, deletionTimestamp: string, graceMs: number): Promise<void> {
    const { store } = this.#options;
    const { uid } = pod.metadata;
    const body = { metadata: { ...(uid === undefined ? {} : { uid }), deletionTimestamp } };
    await this.#until("mark a pod", () => store.patch(PODS, pod.metadata, { type: "merge", body }));
    await handle.stop(graceMs);
    await writer.close();
    await this.#until("delete a pod", () => store.delete(PODS, pod.metadata, uid === undefined ? {} : { uid }));
    await handle.remove();
    this.#records.delete(keyOf(pod));
    this.#releaseNumber(keyOf(pod));
    this.reconcile();
  }

  /** Tries again until it is done or the mesh ends; what is gone is done. */
  async #until(what: string, action: () => Promise<unknown>): Promise<void> {
    const { signal } = this.#reconciler;
    for (;;) {
      try {
        await action();
        return;
      } catch (error) {
        if ((error as { readonly code?: unknown }).code === "NOT_FOUND" || signal.aborted) return;
        this.#options.log.warn(`cannot ${what} yet: ${messageOf(error)}`);
        await sleep(RETRY_MS, signal);
      }
    }
  }

  #releaseNumber(key: string): void {
    for (const pool of this.#podNumbers) pool.release(key);
  }

  #isSystem(pod: Pod): boolean {
    return this.#options.systemPods.some(({ namespace, name }) => keyOf(pod) === `${namespace}/${name}`);
  }

  /** Once for each reason: reconciling happens often. */
  #complain(message: string): void {
    if (this.#complaints.has(message)) return;
    this.#complaints.add(message);
    this.#options.log.error(message);
  }
}
