import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import type { Server } from "node:net";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Identity, silentLog } from "@tulle/base";
import { Lab, type LabHost, type LabProcess, listenIn, until } from "@tulle/lab";
import { applyPodRules, NetNamespace } from "@tulle/linux";
import { type AgentPod, ZdsServer } from "@tulle/zds";
import { startTestCaServer, type TestCaServer } from "@tulle/testkit";
import { type HttpAnswer, httpRequest } from "./http-request.ts";

/**
 * Nodes and pods in real namespaces, a real ztunnel process on each node, fed by a local file, a real node agent's socket
 * and a real CA: what a test of the whole proxy stands on.
 */

export interface PodOptions {
  readonly node: string;
  /** Default true: captured, with an identity. */
  readonly enrolled?: boolean;
  /** Default: the pod's name. */
  readonly serviceAccount?: string;
  /** Services it belongs to, service key → { service port: own port }. */
  readonly services?: Readonly<Record<string, Readonly<Record<number, number>>>>;
  readonly policies?: readonly string[];
  /** More fields of the local file's workload. */
  readonly extra?: Readonly<Record<string, unknown>>;
}

export interface LabPod {
  readonly name: string;
  readonly host: LabHost;
  options: PodOptions;
}

export interface LabNode {
  readonly name: string;
  /** Where ztunnel runs. */
  host: LabHost;
  readonly socket: string;
  agent: ZdsServer;
  ztunnel: LabProcess;
  caForward: Server & AsyncDisposable;
}

export interface MeshLabOptions {
  readonly nodes?: readonly string[];
  /** Added to every ztunnel's environment. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Default 1. */
  readonly threads?: number;
  readonly ca?: TestCaServer;
  /** What every ztunnel finds in /etc/resolv.conf. Default: what this machine has. */
  readonly resolvConf?: string;
}

export const POD_NAMESPACE = "demo";
const TRUST_DOMAIN = "cluster.local";
const CA_PORT = 15_012;
const READY_TIMEOUT_MS = 30_000;
/** Of a node agent with its ztunnel: the product's 5 s are few on a machine that starts several at once. */
const AGENT_PATIENCE_MS = 30_000;
const ZTUNNEL_MAIN = fileURLToPath(new URL("../../apps/ztunnel/src/main.ts", import.meta.url));

export class MeshLab implements AsyncDisposable {
  readonly lab: Lab;
  readonly ca: TestCaServer;
  readonly folder: string;
  readonly nodes = new Map<string, LabNode>();
  readonly pods = new Map<string, LabPod>();
  readonly #options: MeshLabOptions;
  readonly #namespaces = new Map<string, NetNamespace>();
  /** `services` and `policies` of the local file. */
  services: readonly object[] = [];
  policies: readonly object[] = [];
  /** Workloads of the local file beside the pods. */
  moreWorkloads: readonly object[] = [];
  #environment: Readonly<Record<string, string>>;
  #version = 0;

  private constructor(lab: Lab, ca: TestCaServer, options: MeshLabOptions) {
    this.lab = lab;
    this.ca = ca;
    this.#options = options;
    this.#environment = options.environment ?? {};
    this.folder = mkdtempSync(join(tmpdir(), "tulle-mesh-"));
  }

  /** Nodes are up and their proxies ready; there is no pod yet. */
  static async create(options: MeshLabOptions = {}): Promise<MeshLab> {
    const lab = await Lab.create();
    const mesh = new MeshLab(lab, options.ca ?? (await startTestCaServer()), options);
    try {
      mesh.writeConfig();
      await Promise.all((options.nodes ?? ["a", "b"]).map((name) => mesh.#startNode(name)));
      return mesh;
    } catch (error) {
      await mesh.close();
      throw error;
    }
  }

  /** A pod with its rules in force, acknowledged by the node's ztunnel. */
  async pod(name: string, options: PodOptions): Promise<LabPod> {
    const host = await this.lab.host(name);
    const pod: LabPod = { name, host, options };
    this.pods.set(name, pod);
    this.writeConfig();
    if (options.enrolled === false) return pod;
    this.#namespaces.set(name, NetNamespace.open(host.namespace.path));
    await applyPodRules(host.namespace.path, { ipv6: host.v6 !== undefined, dnsCapture: true });
    await this.node(options.node).agent.add(this.#agentPod(pod));
    return pod;
  }

  node(name: string): LabNode {
    const node = this.nodes.get(name);
    if (node === undefined) throw new Error(`the lab has no node ${name}`);
    return node;
  }

  /** Writes the local file from pods, `services` and `policies`; ztunnel reads it by itself. */
  writeConfig(): void {
    const workloads = [...[...this.pods.values()].map((pod) => this.#workload(pod)), ...this.moreWorkloads];
    const path = join(this.folder, "mesh.json");
    const policies = [...this.policies, this.#marker()];
    writeFileSync(`${path}.new`, JSON.stringify({ workloads, services: this.services, policies }));
    renameSync(`${path}.new`, path);
  }

  /** Writes the file and waits until every running node's data threads have applied it. */
  async reload(): Promise<void> {
    this.#version++;
    this.writeConfig();
    const marker = this.#marker().name;
    const running = [...this.nodes.values()].filter(({ ztunnel }) => ztunnel.running);
    for (const { name } of running) {
      await until(
        async () => {
          const { policies, dataThreads } = await this.#dump(name);
          return policies.some((policy) => policy.name === marker) && dataThreads.sent === dataThreads.applied;
        },
        { what: `node ${name} to apply the new configuration` },
      );
    }
  }

  /** Cuts a node off the CA (`false`), established connections included, and lets it back. */
  async caReachable(name: string, reachable: boolean): Promise<void> {
    const node = this.node(name);
    if (reachable) node.caForward = await this.#forwardToCa(node.host);
    else await node.caForward[Symbol.asyncDispose]();
  }

  /** Starts ztunnel of a node again, e.g. after it was killed. */
  async restart(name: string, environment: Readonly<Record<string, string>> = this.#environment): Promise<void> {
    const node = this.node(name);
    node.ztunnel = await this.#startZtunnel(node.host, name, node.socket, environment);
    await this.ready(name);
  }

  /**
   * A rolling restart: a new ztunnel, in a namespace of its own as a new pod has it, takes the node's pods while the old one
   * still serves them. Returns the old one, to be told to end; from now on the node's ztunnel is the new one.
   */
  async replace(name: string): Promise<LabProcess> {
    const node = this.node(name);
    const old = node.ztunnel;
    const host = await this.lab.host(`node-${name}-next`);
    await node.caForward[Symbol.asyncDispose]();
    Object.assign(node, { host, caForward: await this.#forwardToCa(host) });
    await this.restart(name);
    await until(() => node.agent.connected === 2, { what: "both ztunnels to serve the node's pods" });
    return old;
  }

  async ready(name: string): Promise<void> {
    const node = this.node(name);
    await until(async () => node.ztunnel.running && (await this.get(name, 15_021, "/healthz/ready")).status === 200, {
      what: `ztunnel of node ${name} to be ready; it wrote:\n${node.ztunnel.output.slice(-2000)}`,
      timeoutMs: READY_TIMEOUT_MS,
    });
  }

  /** An HTTP request to a node's own port, from the node itself. */
  async get(nodeName: string, port: number, path: string, headers: Readonly<Record<string, string>> = {}) {
    return this.request(nodeName, port, "GET", path, headers);
  }

  async request(
    nodeName: string,
    port: number,
    method: string,
    path: string,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<HttpAnswer> {
    return httpRequest(this.node(nodeName).host.namespace.path, { ip: "127.0.0.1", port }, method, path, headers);
  }

  /** Value of a metric's sample whose labels include these; the sum over matching samples, 0 when there is none. */
  async metric(nodeName: string, name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    // A busy ztunnel may refuse for once: that is not the value 0.
    const { body } = await until(
      async () => {
        const answer = await this.get(nodeName, 15_020, "/metrics");
        if (answer.status !== 200) throw new Error(`status ${answer.status}: ${answer.body}`);
        return answer;
      },
      { what: `the metrics of node ${nodeName}` },
    );
    let sum = 0;
    for (const line of body.split("\n")) {
      if (!line.startsWith(`${name}{`) && !line.startsWith(`${name} `)) continue;
      const matches = Object.entries(labels).every(([key, value]) => line.includes(`${key}="${value}"`));
      if (matches) sum += Number(line.slice(line.lastIndexOf(" ") + 1));
    }
    return sum;
  }

  /** Access log lines of a node that contain all of these texts. */
  logLines(nodeName: string, ...texts: readonly string[]): string[] {
    return this.node(nodeName)
      .ztunnel.output.split("\n")
      .filter((line) => texts.every((text) => line.includes(text)));
  }

  identity(podName: string): Identity {
    const pod = this.pods.get(podName);
    return {
      trustDomain: TRUST_DOMAIN,
      namespace: POD_NAMESPACE,
      serviceAccount: pod?.options.serviceAccount ?? podName,
    };
  }

  async close(): Promise<void> {
    for (const node of this.nodes.values()) {
      await node.ztunnel.stop();
      node.agent.close();
      await node.caForward[Symbol.asyncDispose]();
    }
    for (const namespace of this.#namespaces.values()) namespace.close();
    await this.ca.close();
    await this.lab.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #startNode(name: string): Promise<void> {
    const host = await this.lab.host(`node-${name}`);
    const socket = join(this.folder, `${name}.sock`);
    const agent = new ZdsServer({
      path: socket,
      log: silentLog,
      snapshot: () => this.#snapshot(name),
      helloTimeoutMs: AGENT_PATIENCE_MS,
      ackTimeoutMs: AGENT_PATIENCE_MS,
    });
    const caForward = await this.#forwardToCa(host);
    const ztunnel = await this.#startZtunnel(host, name, socket, this.#environment);
    this.nodes.set(name, { name, host, socket, agent, ztunnel, caForward });
    await this.ready(name);
    await until(() => agent.connected === 1, { what: `ztunnel of node ${name} to take its snapshot` });
  }

  /** The CA listens in the test's own namespace; a node reaches it through its loopback. */
  #forwardToCa(host: LabHost): Promise<Server & AsyncDisposable> {
    return listenIn(host.namespace.path, { ip: "127.0.0.1", port: CA_PORT }, (client) => {
      const upstream = connect(this.ca.port, "127.0.0.1");
      client.on("error", () => {}).on("close", () => upstream.destroy());
      upstream.on("error", () => {}).on("close", () => client.destroy());
      client.pipe(upstream).pipe(client);
    });
  }

  #startZtunnel(
    host: LabHost,
    name: string,
    socket: string,
    environment: Readonly<Record<string, string>>,
  ): Promise<LabProcess> {
    const directory = join(this.folder, `ztunnel-${name}`);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "root.pem"), this.ca.authority.rootsPem);
    const command = [process.execPath, ZTUNNEL_MAIN, "proxy", "ztunnel"];
    const { resolvConf } = this.#options;
    if (resolvConf !== undefined) {
      const file = join(directory, "resolv.conf");
      writeFileSync(file, resolvConf);
      // A mount namespace of its own, as a container has it.
      const script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"';
      command.unshift("unshare", "--mount", "--", "sh", "-c", script, file);
    }
    const [program = "", ...args] = command;
    return host.namespace.start(program, args, {
      directory,
      environment: {
        NODE_NO_WARNINGS: "1",
        NODE_NAME: name,
        INPOD_UDS: socket,
        XDS_ADDRESS: "",
        LOCAL_XDS_PATH: join(this.folder, "mesh.json"),
        CA_ADDRESS: `https://localhost:${CA_PORT}`,
        CA_ROOT_CA: join(directory, "root.pem"),
        AUTH_TOKEN: "node-token",
        ZTUNNEL_WORKER_THREADS: String(this.#options.threads ?? 1),
        CONNECTION_TERMINATION_DEADLINE: "2s",
        ...environment,
      },
    });
  }

  #snapshot(nodeName: string): AgentPod[] {
    return [...this.pods.values()]
      .filter(({ options }) => options.node === nodeName && options.enrolled !== false)
      .map((pod) => this.#agentPod(pod));
  }

  #agentPod(pod: LabPod): AgentPod {
    const { name, namespace, serviceAccount } = { ...this.identity(pod.name), name: pod.name };
    const handle = this.#namespaces.get(pod.name);
    return {
      uid: `uid-${name}`,
      info: { name, namespace, serviceAccount },
      namespace: handle,
    };
  }

  #workload({ name, host, options }: LabPod): object {
    return {
      uid: `Kubernetes//Pod/${POD_NAMESPACE}/${name}`,
      name,
      namespace: POD_NAMESPACE,
      serviceAccount: options.serviceAccount ?? name,
      trustDomain: TRUST_DOMAIN,
      workloadIps: [host.v4, ...(host.v6 === undefined ? [] : [host.v6])],
      protocol: options.enrolled === false ? "TCP" : "HBONE",
      node: options.node,
      workloadName: name,
      canonicalName: name,
      canonicalRevision: "latest",
      services: options.services ?? {},
      authorizationPolicies: options.policies ?? [],
      ...options.extra,
    };
  }

  /** A policy without effect, by which a version of the file is known. */
  #marker() {
    const name = `version-${this.#version}`;
    return { name, namespace: "mesh-lab", scope: "WorkloadSelector", action: "Deny", dryRun: false, rules: [] };
  }

  async #dump(name: string): Promise<{
    policies: readonly { name: string }[];
    dataThreads: { sent: number; applied: number };
  }> {
    return JSON.parse((await this.get(name, 15_000, "/config_dump")).body);
  }
}
