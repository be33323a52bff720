import { arch, release } from "node:os";
import { readFileSync } from "node:fs";
import {
  DATAPLANE_MODE_LABEL,
  INSTALLATION_LABEL,
  type Log,
  PID_ANNOTATION,
  SYSTEM_NAMESPACE,
  VERSION_LABEL,
} from "@tulle/base";
import {
  apiVersionOf,
  DAEMON_SET,
  DEPLOYMENT,
  type KubeObject,
  NODE,
  type ResourceKind,
  SERVICE_ACCOUNT,
  type ServiceAccount,
  type Store,
} from "@tulle/store";
import { type AddressPair, type AddressPlan } from "../objects/addresses.ts";
import { containerId, type Pod, PODS } from "../objects/pod.ts";
import { Reconciler } from "../objects/reconciler.ts";
import { MANAGER, StatusWriter } from "../objects/status-writer.ts";
import { VERSION } from "../version.ts";
import { AGENT_ACCOUNT, CONTROL_PLANE_ACCOUNT, ZTUNNEL_ACCOUNT } from "./launch.ts";

/**
 * The mesh's own parts as a cluster's API would show them: who asks for certificates or connects to a node agent is known by
 * its Pod, and tools find them where they look.
 */

/** A process of the mesh. */
export interface Part {
  readonly workload: "istiod" | "istio-cni-node" | "ztunnel";
  readonly podName: string;
  readonly node: string;
  readonly address: AddressPair;
  /** In the node's own network, which is another pod's. */
  readonly hostNetwork: boolean;
}

export interface PartState {
  readonly pid: number | undefined;
  /** Why it is not ready; undefined: it is. */
  readonly problem: string | undefined;
  readonly restarts: number;
}

const WORKLOADS = {
  istiod: {
    kind: DEPLOYMENT,
    account: CONTROL_PLANE_ACCOUNT,
    container: "discovery",
    labels: { app: "istiod", istio: "pilot" },
  },
  "istio-cni-node": {
    kind: DAEMON_SET,
    account: AGENT_ACCOUNT,
    container: "install-cni",
    labels: { "k8s-app": "istio-cni-node" },
  },
  ztunnel: {
    kind: DAEMON_SET,
    account: ZTUNNEL_ACCOUNT,
    container: "istio-proxy",
    labels: { app: "ztunnel" },
  },
} as const;
const BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id";
/** As Kubernetes names them. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64" };

export class SystemObjects {
  readonly #store: Store;
  readonly #log: Log;
  readonly #parts = new Map<string, PartObject>();
  readonly #workloads = new Map<string, { readonly writer: StatusWriter; readonly generation: number }>();
  readonly #accounts = new Map<string, string>();

  constructor(options: { readonly store: Store; readonly log: Log }) {
    this.#store = options.store;
    this.#log = options.log;
  }

  /** Nodes, accounts, workloads and pods are there when it resolves. */
  async declare(plan: AddressPlan, parts: readonly Part[]): Promise<void> {
    for (const node of plan.nodes) await this.#declareNode(node);
    for (const [name, workload] of Object.entries(WORKLOADS)) {
      const account = await this.#apply<ServiceAccount>(SERVICE_ACCOUNT, { metadata: meta(workload.account, name) });
      this.#accounts.set(workload.account, account.metadata.uid ?? "");
      const template = { metadata: { labels: workload.labels } };
      const object = await this.#apply(workload.kind, {
        metadata: meta(name, name),
        spec: { selector: { matchLabels: workload.labels }, template },
      });
      const writer = new StatusWriter({ store: this.#store, kind: workload.kind, about: object, log: this.#log });
      this.#workloads.set(name, { writer, generation: object.metadata.generation ?? 0 });
    }
    for (const part of parts) {
      const { account, container, labels } = WORKLOADS[part.workload];
      const object = await this.#apply<Pod>(PODS, {
        metadata: { ...meta(part.podName, part.workload), labels: { ...labels, ...OUTSIDE, ...common(part.workload) } },
        spec: {
          nodeName: part.node,
          serviceAccountName: account,
          ...(part.hostNetwork ? { hostNetwork: true } : {}),
          containers: [{ name: container }],
        },
      });
      this.#parts.set(part.podName, new PartObject(part, object, this.#store, this.#log));
    }
  }

  /** The account and the pod of a part, for its token. */
  subjectOf(podName: string): {
    readonly serviceAccount: { readonly name: string; readonly uid: string };
    readonly pod: { readonly name: string; readonly uid: string };
  } {
    const part = this.#parts.get(podName);
    if (part === undefined) throw new Error(`there is no pod ${podName}`);
    const { account } = WORKLOADS[part.part.workload];
    return {
      serviceAccount: { name: account, uid: this.#accounts.get(account) ?? "" },
      pod: { name: podName, uid: part.uid },
    };
  }

  update(podName: string, state: PartState): void {
    const changed = this.#parts.get(podName);
    if (changed === undefined) return;
    changed.set(state);
    const { workload } = changed.part;
    const own = [...this.#parts.values()].filter(({ part }) => part.workload === workload);
    const ready = own.filter((one) => one.ready).length;
    const { writer, generation = 0 } = this.#workloads.get(workload) ?? {};
    writer?.set(workloadStatus(WORKLOADS[workload].kind, generation, own.length, ready));
  }

  async close(): Promise<void> {
    const writers = [...this.#workloads.values()].map(({ writer }) => writer);
    await Promise.all([...this.#parts.values(), ...writers].map((one) => one.close()));
  }

  async #declareNode({ name, address, podCidrs }: AddressPlan["nodes"][number]): Promise<void> {
    const architecture = ARCHITECTURES[arch()] ?? arch();
    const labels = {
      "kubernetes.io/hostname": name,
      "kubernetes.io/os": "linux",
      "kubernetes.io/arch": architecture,
    };
    const node = await this.#apply(NODE, {
      metadata: { name, labels },
      spec: { podCIDR: podCidrs[0], podCIDRs: podCidrs },
    });
    const ips = [address.v4, address.v6].filter((ip) => ip !== undefined);
    const status = {
      addresses: [...ips.map((ip) => ({ type: "InternalIP", address: ip })), { type: "Hostname", address: name }],
      conditions: [
        { type: "Ready", status: "True", reason: "LocalMesh", message: "a network namespace of this machine" },
      ],
      nodeInfo: { bootID: readFileSync(BOOT_ID_FILE, "utf8").trim(), kernelVersion: release(), architecture },
    };
    const { apiVersion, kind, metadata } = node;
    const object = { apiVersion, kind, metadata: { name: metadata.name }, status };
    await this.#store.apply(NODE, object, { manager: MANAGER, subresource: "status" });
  }

  #apply<T extends KubeObject>(kind: ResourceKind<T>, fields: Omit<KubeObject, "apiVersion" | "kind">): Promise<T> {
    const object = { apiVersion: apiVersionOf(kind), kind: kind.kind, ...fields } as KubeObject;
    return this.#store.apply(kind, object, { manager: MANAGER });
  }
}

/** One part's Pod: its process first, for others admit it by that. */
class PartObject {
  readonly part: Part;
  readonly uid: string;
  readonly #store: Store;
  readonly #writer: StatusWriter;
  readonly #reconciler: Reconciler;
  readonly #started = timestamp();
  #state: PartState = { pid: undefined, problem: "it has not started", restarts: 0 };
  #written: number | undefined;
  #since = { ready: false, at: timestamp() };

  constructor(part: Part, pod: Pod, store: Store, log: Log) {
    this.part = part;
    this.uid = pod.metadata.uid ?? "";
    this.#store = store;
    this.#writer = new StatusWriter({ store, kind: PODS, about: pod, log });
    this.#reconciler = new Reconciler({
      work: () => this.#note(),
      complaint: `the process of pod ${part.podName} is not known to the others yet`,
      log,
    });
  }

  get ready(): boolean {
    return this.#state.problem === undefined;
  }

  set(state: PartState): void {
    this.#state = state;
    if (this.#since.ready !== this.ready) this.#since = { ready: this.ready, at: timestamp() };
    this.#reconciler.poke();
  }

  async close(): Promise<void> {
    await this.#reconciler.close();
    await this.#writer.close();
  }

  async #note(): Promise<void> {
    const { pid, problem, restarts } = this.#state;
    const { podName, address, workload } = this.part;
    if (pid !== this.#written) {
      const annotations = { [PID_ANNOTATION]: pid === undefined ? null : String(pid) };
      const body = { metadata: { uid: this.uid, annotations } };
      await this.#store.patch(PODS, { namespace: SYSTEM_NAMESPACE, name: podName }, { type: "merge", body });
      this.#written = pid;
    }
    const ips = [address.v4, address.v6].filter((ip) => ip !== undefined);
    const containerID = containerId(pid);
    const { at } = this.#since;
    this.#writer.set({
      phase: "Running",
      podIP: address.v4,
      podIPs: ips.map((ip) => ({ ip })),
      startTime: this.#started,
      conditions: [
        problem === undefined
          ? { type: "Ready", status: "True", lastTransitionTime: at }
          : { type: "Ready", status: "False", reason: "NotReady", message: problem, lastTransitionTime: at },
      ],
      containerStatuses: [
        {
          name: WORKLOADS[workload].container,
          ready: problem === undefined,
          restartCount: restarts,
          ...(containerID === undefined ? {} : { containerID }),
        },
      ],
    });
  }
}

const OUTSIDE = { [DATAPLANE_MODE_LABEL]: "none" };

function common(workload: string): Readonly<Record<string, string>> {
  return {
    "app.kubernetes.io/name": workload,
    "app.kubernetes.io/managed-by": "tulle",
    [VERSION_LABEL]: VERSION,
    [INSTALLATION_LABEL]: SYSTEM_NAMESPACE,
  };
}

function meta(name: string, workload: string) {
  return { namespace: SYSTEM_NAMESPACE, name, labels: common(workload) };
}

function workloadStatus(kind: ResourceKind, observedGeneration: number, wanted: number, ready: number): object {
  return kind === DEPLOYMENT
    ? { observedGeneration, replicas: wanted, updatedReplicas: wanted, readyReplicas: ready, availableReplicas: ready }
    : {
        observedGeneration,
        desiredNumberScheduled: wanted,
        currentNumberScheduled: wanted,
        updatedNumberScheduled: wanted,
        numberReady: ready,
        numberAvailable: ready,
        numberUnavailable: wanted - ready,
      };
}

function timestamp(): string {
  return `${new Date().toISOString().slice(0, 19)}Z`;
}
