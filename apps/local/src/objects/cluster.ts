import type { Log } from "@tulle/base";
import { type Container, describe, keyOf, type Namespace } from "../resources/kinds.ts";
import { EMPTY_SET, ofKind, type ResourceSet } from "../resources/resource-set.ts";
import {
  type AddressPair,
  type AddressPlan,
  MAX_SERVICES,
  NumberPool,
  PODS_PER_NODE,
  withClusterIps,
} from "./addresses.ts";
import type { ObjectStore } from "./object-store.ts";
import { type Pod, wantsMesh } from "./pod.ts";
import {
  fromDeployment,
  placedPod,
  type ResolvedContainer,
  resolveContainers,
  type WantedPod,
} from "./pod-template.ts";
import { planReplicas, uuidOf } from "./replicas.ts";

/** Changes what the API says of the pod. */
export type PodReport = (change: (pod: Pod) => Pod) => void;

/** A pod that runs, whoever runs it. */
export interface PodHandle {
  setMeshed(wanted: boolean): void;
  /** Resolves when nothing of the pod is left on the machine. */
  stop(graceMs: number): Promise<void>;
}

export interface PodStart {
  readonly pod: Pod;
  readonly containers: readonly ResolvedContainer[];
  readonly address: AddressPair;
  /** A number that no other pod of this mesh has, for names and user ids. */
  readonly serial: number;
  readonly meshed: boolean;
  readonly report: PodReport;
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

export interface ClusterOptions {
  readonly plan: AddressPlan;
  readonly store: ObjectStore;
  readonly systemPods: readonly SystemPod[];
  /** Distinguishes the pods of this start from those of the last. */
  readonly runId: string;
  readonly start: (pod: PodStart) => PodHandle;
  readonly log: Log;
}

interface PodRecord {
  pod: Pod;
  readonly owner: string;
  readonly handle: PodHandle;
  meshed: boolean;
}

/** Kubernetes gives a process 30 s to end by itself, which is longer than anybody wants to wait at a terminal. */
const DEFAULT_GRACE_SECONDS = 3;
const SYSTEM_OWNER = "system";

/**
 * Plays scheduler and controllers: turns what the directory asks for into pods and services with addresses, and keeps the
 * objects of the store true. It knows nothing of Linux: pods are started through `start`.
 */
export class Cluster {
  readonly #options: ClusterOptions;
  readonly #records = new Map<string, PodRecord>();
  readonly #podNumbers: readonly NumberPool[];
  readonly #serviceNumbers = new NumberPool(MAX_SERVICES);
  readonly #complaints = new Set<string>();
  #set: ResourceSet = EMPTY_SET;
  #serial = 0;
  #closed = false;

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.#podNumbers = options.plan.nodes.map(() => new NumberPool(PODS_PER_NODE));
  }

  /** From now on the directory asks for this. Pods come and go afterwards. */
  apply(set: ResourceSet): void {
    this.#set = set;
    const services = ofKind(set, "Service");
    const keys = new Set(services.map(keyOf));
    for (const key of this.#serviceNumbers.keys()) if (!keys.has(key)) this.#serviceNumbers.release(key);
    this.#options.store.update({
      namespaces: this.#namespaces(),
      authorizationPolicies: ofKind(set, "AuthorizationPolicy"),
      peerAuthentications: ofKind(set, "PeerAuthentication"),
      services: services.flatMap((service) => {
        const number = this.#serviceNumbers.take(keyOf(service));
        if (number !== undefined) return [withClusterIps(service, this.#options.plan.serviceAddress(number))];
        this.#complain(`${describe(service)}: more than ${MAX_SERVICES} services: it gets no address`);
        return [];
      }),
    });
    this.#reconcile();
  }

  /** Ends every pod at once. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#records.values()].map(({ handle }) => handle.stop(0)));
  }

  #namespaces(): Namespace[] {
    const declared = ofKind(this.#set, "Namespace");
    const names = new Set(declared.map((one) => one.metadata.name));
    const implied = ["default", ...this.#options.systemPods.map((pod) => pod.namespace)].filter(
      (name) => !names.has(name),
    );
    return [
      ...declared,
      ...[...new Set(implied)].map(
        (name): Namespace => ({ apiVersion: "v1", kind: "Namespace", metadata: { name, namespace: "" } }),
      ),
    ];
  }

  #reconcile(): void {
    if (this.#closed) return;
    const deployments = ofKind(this.#set, "Deployment");
    for (const pod of this.#options.systemPods) this.#ensureSystemPod(pod);
    const owners = new Set([SYSTEM_OWNER, ...deployments.map(keyOf)]);
    for (const record of this.#records.values()) if (!owners.has(record.owner)) this.#remove(record);
    for (const deployment of deployments) {
      const owner = keyOf(deployment);
      const pods = [...this.#records.values()].filter((record) => record.owner === owner).map((record) => record.pod);
      const { create, remove } = planReplicas(deployment, this.#set.images, pods);
      for (const pod of remove) {
        const record = this.#records.get(keyOf(pod));
        if (record !== undefined) this.#remove(record);
      }
      for (const planned of create) this.#start(owner, fromDeployment(deployment, planned));
    }
    for (const record of this.#records.values()) this.#updateMesh(record);
    this.#publish();
  }

  #ensureSystemPod(system: SystemPod): void {
    const { namespace, name, labels, serviceAccountName, container, appFolder } = system;
    if (this.#records.has(`${namespace}/${name}`)) return;
    this.#start(SYSTEM_OWNER, {
      metadata: { name, namespace, labels, annotations: {} },
      spec: { serviceAccountName, containers: [container] },
      appFolder,
    });
  }

  #start(owner: string, wanted: WantedPod): void {
    const { runId, start } = this.#options;
    const key = keyOf(wanted);
    const place = this.#place(key);
    if (place === undefined) {
      this.#complain(`pod ${key}: both nodes hold ${PODS_PER_NODE} pods already; it is not started`);
      return;
    }
    const { node, address } = place;
    const serial = this.#serial++;
    const uid = uuidOf(`${runId} ${key} ${serial}`);
    const pod = placedPod(wanted, { uid, nodeName: node.name, hostIP: node.address.v4, address });
    const containers = resolveContainers(pod, this.#set.images, wanted.appFolder);
    const meshed = wantsMesh(pod.metadata.labels, this.#namespaceLabels(pod.metadata.namespace));
    const report: PodReport = (change) => {
      const record = this.#records.get(key);
      if (record === undefined || record.pod.metadata.uid !== uid) return;
      record.pod = change(record.pod);
      // A pod that became ready may let an old one go.
      setImmediate(() => this.#reconcile());
    };
    const handle = start({ pod, containers, address, serial, meshed, report });
    this.#records.set(key, { pod, owner, handle, meshed });
  }

  /** The node with the fewest pods, the first of equals: round-robin while nothing is removed. */
  #place(key: string): { readonly node: AddressPlan["nodes"][number]; readonly address: AddressPair } | undefined {
    const { nodes } = this.#options.plan;
    const load = (name: string) => [...this.#records.values()].filter(({ pod }) => pod.spec.nodeName === name).length;
    const order = nodes.map((node, index) => ({ node, index, load: load(node.name) })).sort((a, b) => a.load - b.load);
    for (const { node, index } of order) {
      const number = this.#podNumbers[index]?.take(key);
      if (number !== undefined) return { node, address: node.podAddress(number) };
    }
    return undefined;
  }

  #remove(record: PodRecord): void {
    if (record.pod.metadata.deletionTimestamp !== undefined) return;
    const key = keyOf(record.pod);
    const { metadata } = record.pod;
    record.pod = { ...record.pod, metadata: { ...metadata, deletionTimestamp: new Date().toISOString() } };
    const grace = record.pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS;
    void record.handle.stop(grace * 1000).finally(() => {
      this.#records.delete(key);
      for (const pool of this.#podNumbers) pool.release(key);
      this.#reconcile();
    });
  }

  #updateMesh(record: PodRecord): void {
    const { labels, namespace, deletionTimestamp } = record.pod.metadata;
    const wanted = wantsMesh(labels, this.#namespaceLabels(namespace));
    if (wanted === record.meshed || deletionTimestamp !== undefined) return;
    record.meshed = wanted;
    record.handle.setMeshed(wanted);
  }

  #namespaceLabels(name: string): Readonly<Record<string, string>> | undefined {
    return ofKind(this.#set, "Namespace").find((one) => one.metadata.name === name)?.metadata.labels;
  }

  #publish(): void {
    this.#options.store.update({ pods: [...this.#records.values()].map((record) => record.pod) });
  }

  /** Once for each reason: reconciling happens often. */
  #complain(message: string): void {
    if (this.#complaints.has(message)) return;
    this.#complaints.add(message);
    this.#options.log.error(message);
  }
}
