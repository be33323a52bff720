import type { SocketAddress } from "@tulle/base";
import {
  encodeChange,
  type MeshChange,
  newMatch,
  newPolicy,
  newService,
  newWorkload,
  type Policy,
  type Service,
  serviceKey,
  type Workload,
} from "@tulle/mesh";
import { type NetworkFaults, type SimulatedNamespace, SimulatedNetwork, type SimulatedReactor } from "@tulle/reactor";
import { createDataTelemetry, createThreadTelemetry, LogFilter } from "@tulle/telemetry";
import { createPodCounters, PodBudget } from "../../apps/ztunnel/src/data/limits.ts";
import { DataThread } from "../../apps/ztunnel/src/data/thread.ts";
import { SIMULATION_EPOCH } from "./identities.ts";
import type { CreateContext } from "../../apps/ztunnel/src/data/identity-store.ts";
import type { DataLimits, DataSettings, IdentityMessage, Report } from "../../apps/ztunnel/src/protocol.ts";

/** A pod of the simulated mesh. */
export interface SimulatedPod {
  readonly name: string;
  readonly ips: readonly string[];
  readonly node: string;
  /** Enrolled: captured, with an identity. Else it speaks and gets plaintext. */
  readonly enrolled: boolean;
}

export interface SimulatedNode {
  readonly name: string;
  readonly reactor: SimulatedReactor;
  readonly thread: DataThread;
}

export interface WorldOptions {
  readonly seed: number;
  readonly faults: NetworkFaults;
  readonly pods: readonly SimulatedPod[];
  readonly createContext: CreateContext;
  /** The certificate of a workload of this simulation. */
  readonly material: (uri: string) => IdentityMessage;
  readonly limits?: Partial<DataLimits>;
  /** Nodes know their own pods only and ask for the rest (XDS_ON_DEMAND). */
  readonly onDemand?: boolean;
}

export const NAMESPACE = "demo";
export const SERVICE_PORT = 80;
export const TARGET_PORT = 8080;

const PORTS = { outbound: 15001, inboundPlaintext: 15006, inboundHbone: 15008 };
const PACKET_MARK = 0x539;

const LIMITS: DataLimits = {
  connectionsPerPod: 1000,
  bufferedBytesPerPod: 32 * 1024 * 1024,
  unauthenticatedPerListener: 256,
  unauthenticatedPerSource: 64,
};

/** Two or more nodes with a real data thread each, and their pods, on one simulated network. */
export class World {
  readonly network: SimulatedNetwork;
  readonly nodes = new Map<string, SimulatedNode>();
  readonly pods = new Map<
    string,
    { readonly pod: SimulatedPod; readonly namespace: SimulatedNamespace; readonly slot: number }
  >();
  readonly #options: WorldOptions;
  readonly #limits: DataLimits;
  readonly #podCounters = createPodCounters();
  readonly #byDescriptor: SimulatedNamespace[] = [];
  readonly #changes: MeshChange[] = [];
  #request = 0;
  /** Proxies that did not start. */
  readonly failures: string[] = [];
  /** Names that were asked for on demand. */
  readonly asked: string[] = [];

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#limits = { ...LIMITS, ...options.limits };
    this.network = new SimulatedNetwork({ seed: options.seed, faults: options.faults, epoch: SIMULATION_EPOCH });
    for (const pod of options.pods) this.#addPod(pod);
    this.apply([
      ...options.pods.map((pod) => ({ kind: "workload", workload: workloadOf(pod) }) as const),
      { kind: "synced" },
    ]);
    for (const pod of options.pods) if (pod.enrolled) this.#enrol(pod);
  }

  /** What the control plane says to every node. */
  apply(changes: readonly MeshChange[]): void {
    this.#changes.push(...changes);
    for (const { name, thread } of this.nodes.values()) {
      const told = this.#options.onDemand ? changes.filter((change) => isTold(change, name)) : changes;
      thread.handle({ kind: "changes", sequence: 0, changes: told.map(encodeChange) });
    }
  }

  /** An event loop for an application in this pod. */
  applicationReactor(podName: string): SimulatedReactor {
    const pod = this.pods.get(podName);
    if (pod === undefined) throw new Error(`no pod ${podName}`);
    return this.network.reactor(pod.namespace);
  }

  address(podName: string, port: number, v6 = false): SocketAddress {
    const ips = this.pods.get(podName)?.pod.ips ?? [];
    return { ip: ips.find((ip) => ip.includes(":") === v6) ?? "", port };
  }

  budget(podName: string): PodBudget {
    return new PodBudget(new Int32Array(this.#podCounters), this.pods.get(podName)?.slot ?? 0, this.#limits);
  }

  close(): void {
    for (const { thread, reactor } of this.nodes.values()) {
      thread.close();
      reactor.close();
    }
  }

  #addPod(pod: SimulatedPod): void {
    const namespace = this.network.namespace(pod.name, pod.ips);
    this.#byDescriptor.push(namespace);
    this.pods.set(pod.name, { pod, namespace, slot: this.pods.size });
    if (!this.nodes.has(pod.node)) this.nodes.set(pod.node, this.#startNode(pod.node));
  }

  #enrol(pod: SimulatedPod): void {
    const { namespace, slot } = this.pods.get(pod.name) as { namespace: SimulatedNamespace; slot: number };
    this.nodes.get(pod.node)?.thread.handle({
      kind: "start-proxy",
      request: ++this.#request,
      proxy: "in-pod",
      uid: pod.name,
      workload: { name: pod.name, namespace: NAMESPACE, serviceAccount: pod.name },
      namespace: this.#byDescriptor.indexOf(namespace),
      slot,
    });
    namespace.capture = {
      outboundPort: PORTS.outbound,
      inboundPlaintextPort: PORTS.inboundPlaintext,
      inboundHbonePort: PORTS.inboundHbone,
    };
  }

  #startNode(name: string): SimulatedNode {
    const reactor = this.network.reactor(this.network.namespace(`node-${name}`, []));
    const memory = createThreadTelemetry({ thread: 0, format: "plain", control: silentFilter() });
    const thread: DataThread = new DataThread({
      settings: this.#settings(name),
      reactor,
      telemetry: createDataTelemetry(memory, () => reactor.wall()),
      podCounters: new Int32Array(this.#podCounters),
      createContext: this.#options.createContext,
      adoptNamespace: (descriptor) => this.#byDescriptor[descriptor] as SimulatedNamespace,
      report: (report) => this.#onReport(report, () => thread),
    });
    return { name, reactor, thread };
  }

  #onReport(report: Report, thread: () => DataThread): void {
    if (report.kind === "done" && report.error !== undefined) this.failures.push(report.error);
    if (report.kind === "need-address") this.#answer(report.name, thread);
    if (report.kind !== "need-identity") return;
    // The CA takes its time.
    this.network.schedule(this.network.random() * 20, () => {
      thread().handle({ kind: "identity", uri: report.uri, material: this.#options.material(report.uri) });
    });
  }

  /** What a control plane does with a subscription: the resource, for a service its endpoints too, then "that was all". */
  #answer(name: string, thread: () => DataThread): void {
    this.asked.push(name);
    this.network.schedule(this.network.random() * 50, () => {
      const found = this.#changes.filter((change) => namesOf(change).includes(name));
      const keys = found.flatMap((change) => (change.kind === "service" ? [serviceKey(change.service)] : []));
      const members = this.#changes.filter((change) => {
        return change.kind === "workload" && keys.some((key) => change.workload.services.has(key));
      });
      thread().handle({ kind: "changes", sequence: 0, changes: [...found, ...members].map(encodeChange) });
      thread().handle({ kind: "address-answered", name });
    });
  }

  #settings(nodeName: string): DataSettings {
    return {
      threadIndex: 0,
      network: "",
      nodeName,
      clusterId: "Kubernetes",
      clusterDomain: "cluster.local",
      ipv6: true,
      packetMark: PACKET_MARK,
      originalSource: undefined,
      reusePort: true,
      keepAlive: undefined,
      proxy: true,
      ports: PORTS,
      meshCidrs: ["10.0.0.0/8", "fd00::/16"],
      pool: { maxStreamsPerConnection: 100, unusedReleaseMs: 300_000, maxAgeMs: 3_600_000 },
      http2: { streamWindow: 262_144, connectionWindow: 1_048_576, frameSize: 1_048_576 },
      responseBaggage: true,
      pqcOnly: false,
      dryRunAtInfo: false,
      onDemand: this.#options.onDemand === true,
      limits: this.#limits,
      dns: undefined,
    };
  }
}

/** On demand a node is told unasked of its own pods, of every policy, and that the first answer is complete. */
function isTold(change: MeshChange, node: string): boolean {
  if (change.kind === "workload") return change.workload.node === node;
  return change.kind !== "service";
}

function namesOf(change: MeshChange): string[] {
  if (change.kind === "workload") return change.workload.addresses.map((ip) => `${change.workload.network}/${ip}`);
  return change.kind === "service" ? change.service.vips.map(({ network, ip }) => `${network}/${ip}`) : [];
}

/** The service that all pods of these names belong to. */
export function serviceOf(name: string, vips: readonly string[]): Service {
  return newService({
    name,
    namespace: NAMESPACE,
    hostname: `${name}.${NAMESPACE}.svc.cluster.local`,
    vips: vips.map((ip) => ({ network: "", ip })),
    ports: new Map([[SERVICE_PORT, TARGET_PORT]]),
    canonical: true,
  });
}

export function workloadOf(pod: SimulatedPod, overrides: Partial<Workload> = {}): Workload {
  return newWorkload({
    uid: `Kubernetes//Pod/${NAMESPACE}/${pod.name}`,
    name: pod.name,
    namespace: NAMESPACE,
    serviceAccount: pod.name,
    addresses: pod.ips,
    protocol: pod.enrolled ? "HBONE" : "TCP",
    node: pod.node,
    workloadName: pod.name,
    canonicalName: pod.name,
    canonicalRevision: "latest",
    ...overrides,
  });
}

/** DENY whoever is not one of these service accounts. */
export function allowOnly(name: string, serviceAccounts: readonly string[]): Policy {
  const notPrincipals = serviceAccounts.map(
    (account) => ({ kind: "exact", value: `cluster.local/ns/${NAMESPACE}/sa/${account}` }) as const,
  );
  return newPolicy({ name, namespace: NAMESPACE, action: "Deny", rules: [[[newMatch({ notPrincipals })]]] });
}

function silentFilter(): LogFilter {
  const filter = LogFilter.parse("off");
  if (!(filter instanceof LogFilter)) throw new Error("the log filter `off` does not parse");
  return filter;
}
