import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Log, sleep } from "@tulle/base";
import { meshCidrs, type AddressPlan } from "../objects/addresses.ts";
import type { ObjectStore } from "../objects/object-store.ts";
import type { Pod } from "../objects/pod.ts";
import type { Lan } from "../runtime/network.ts";
import type { PodMesh } from "../runtime/pod-environment.ts";
import { ControlPlane } from "./control-plane.ts";
import { NodeCredentials } from "./credentials.ts";
import { NodeAgent } from "./node-agent.ts";
import { MeshNode } from "./ztunnel.ts";

/** Control plane, and for every node its agent and its ztunnel. */

export interface MeshOptions {
  readonly plan: AddressPlan;
  readonly lan: Lan;
  readonly store: ObjectStore;
  readonly clusterDomain: string;
  readonly trustDomain: string;
  /** Own folder, 0700, and the folder of logs. */
  readonly folder: string;
  readonly logsFolder: string;
  /** Name of the link on the bridge of a node, by its number. */
  readonly veth: (node: number) => string;
  readonly log: Log;
}

const CLUSTER_ID = "Kubernetes";
/** How long taking in a change may take before it is waited for no longer. */
const ANNOUNCE_TIMEOUT_MS = 5000;
const ANNOUNCE_POLL_MS = 20;
/** The server gathers changes for up to 10 ms before it sends them. */
const BATCH_MS = 20;
const READY_POLL_MS = 50;

export class Mesh {
  readonly #controlPlane: ControlPlane;
  readonly #agents: ReadonlyMap<string, NodeAgent>;
  readonly #nodes: readonly MeshNode[];
  readonly #unsubscribe: () => void;

  private constructor(
    controlPlane: ControlPlane,
    agents: ReadonlyMap<string, NodeAgent>,
    nodes: readonly MeshNode[],
    store: ObjectStore,
  ) {
    this.#controlPlane = controlPlane;
    this.#agents = agents;
    this.#nodes = nodes;
    this.#unsubscribe = store.subscribe((objects) => controlPlane.update(objects));
  }

  /** Everything runs when it resolves; `ready` waits until it works. */
  static async start(options: MeshOptions): Promise<Mesh> {
    const { plan, lan, store, clusterDomain, trustDomain, folder, logsFolder, veth, log } = options;
    const credentials = new NodeCredentials({ trustDomain, clusterId: CLUSTER_ID, objects: () => store.current });
    const controlPlane = await ControlPlane.start({
      host: plan.gateway.v4,
      clusterId: CLUSTER_ID,
      clusterDomain,
      trustDomain,
      credentials,
      log,
    });
    const rootsFile = join(folder, "root-cert.pem");
    writeFileSync(rootsFile, controlPlane.rootsPem);
    const ipv6 = plan.gateway.v6 !== undefined;
    const agents = new Map<string, NodeAgent>();
    const nodes: MeshNode[] = [];
    try {
      for (const [index, node] of plan.nodes.entries()) {
        const nodeFolder = join(folder, node.name);
        mkdirSync(nodeFolder, { mode: 0o700 });
        const agentSocket = join(nodeFolder, "ztunnel.sock");
        const announced = () => taken(controlPlane);
        agents.set(node.name, new NodeAgent({ socket: agentSocket, ipv6, log: log.scope(node.name), announced }));
        nodes.push(
          await MeshNode.start({
            node,
            lan,
            veth: veth(index),
            controlPlane: controlPlane.address,
            rootsFile,
            token: credentials.issue(node.name),
            clusterId: CLUSTER_ID,
            clusterDomain,
            trustDomain,
            meshCidrs: meshCidrs(plan),
            agentSocket,
            folder: nodeFolder,
            logsFolder,
            ipv6,
          }),
        );
      }
    } catch (error) {
      await takeDown(nodes, agents.values(), controlPlane);
      throw error;
    }
    return new Mesh(controlPlane, agents, nodes, store);
  }

  get nodes(): readonly MeshNode[] {
    return this.#nodes;
  }

  /** `https://address:port` of xDS and CA. */
  get address(): string {
    return this.#controlPlane.address;
  }

  /** What takes a pod into the mesh and out of it: its node's agent. */
  readonly pods: PodMesh = {
    enrol: (pod, namespace, fresh) => this.#agentOf(pod).enrol(pod, namespace, fresh),
    withdraw: (pod, namespace) => this.#agentOf(pod).withdraw(pod, namespace),
    forget: (pod) => this.#agentOf(pod).forget(pod),
  };

  /** Waits until every ztunnel is ready or the signal aborts; `waiting` hears what it waits for. Rejects when `timeoutMs` is over. */
  async ready(timeoutMs: number, waiting: (text: string) => void, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!signal.aborted) {
      const reasons = await Promise.all(
        this.#nodes.map(async (node) => ({ node: node.name, reason: await node.notReady() })),
      );
      const open = reasons.filter(({ reason }) => reason !== undefined);
      if (open.length === 0) return;
      const text = open.map(({ node, reason }) => `${node}: ${reason}`).join("; ");
      waiting(text);
      if (performance.now() > deadline) throw new Error(`ztunnel did not become ready: ${text}`);
      await sleep(READY_POLL_MS, signal);
    }
  }

  async close(): Promise<void> {
    this.#unsubscribe();
    await takeDown(this.#nodes, this.#agents.values(), this.#controlPlane);
  }

  #agentOf(pod: Pod): NodeAgent {
    const agent = this.#agents.get(pod.spec.nodeName);
    if (agent === undefined) throw new Error(`there is no node ${pod.spec.nodeName}`);
    return agent;
  }
}

/** Servers go before the namespaces of their clients: a connection whose other end has vanished takes minutes to end. */
async function takeDown(
  nodes: readonly MeshNode[],
  agents: Iterable<NodeAgent>,
  controlPlane: ControlPlane,
): Promise<void> {
  await Promise.all(nodes.map((node) => node.stop()));
  for (const agent of agents) agent.close();
  await controlPlane.close();
  await Promise.all(nodes.map((node) => node.remove()));
}

/** Resolves when all clients have acknowledged what they were sent, or it has taken too long. */
async function taken(controlPlane: ControlPlane): Promise<void> {
  const deadline = performance.now() + ANNOUNCE_TIMEOUT_MS;
  await sleep(BATCH_MS);
  while (!controlPlane.settled && performance.now() < deadline) await sleep(ANNOUNCE_POLL_MS);
}
