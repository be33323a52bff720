import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Log, READINESS_PORT, sleep, SYSTEM_NAMESPACE } from "@tulle/base";
import { LabNamespace } from "@tulle/lab";
import type { Store } from "@tulle/store";
import type { AddressPair, AddressPlan, NodePlan } from "../objects/addresses.ts";
import { addPod, type NewSandbox } from "../runtime/cni.ts";
import { LogFile } from "../runtime/log-file.ts";
import { attach, deleteLink, type Lan } from "../runtime/network.ts";
import { VERSION } from "../version.ts";
import { HostNamespace } from "./host-namespace.ts";
import {
  controlPlaneUrl,
  type Launch,
  launchAgent,
  launchControlPlane,
  launchZtunnel,
  type NodeFiles,
  nodeFiles,
} from "./launch.ts";
import { Program } from "./program.ts";
import { askReady } from "./readiness.ts";
import { RootsFile } from "./roots-file.ts";
import { type Part, SystemObjects } from "./system-objects.ts";
import { TokenFile, TokenIssuer } from "./tokens.ts";

/** The mesh itself: one control plane, and for every node its agent and its ztunnel, each a process that is kept running. */

export interface MeshOptions {
  readonly plan: AddressPlan;
  readonly lan: Lan;
  readonly store: Store;
  readonly clusterDomain: string;
  /** Of the store: what the other processes share with this one. */
  readonly state: string;
  /** Of this run, 0700, and the folder of logs. */
  readonly folder: string;
  readonly logsFolder: string;
  /** Name of the link on the bridge, by number. */
  readonly veth: (serial: number) => string;
  readonly log: Log;
}

/** One process of the mesh as people are told of it. */
export interface Process {
  readonly node: string;
  readonly role: "control plane" | "node agent" | "ztunnel";
  readonly address: string;
  /** Of the network namespace. */
  readonly namespace: string;
  readonly pid: number | undefined;
}

const LOOPBACK = "127.0.0.1";
/** Where the control plane and the agents say whether they are ready. */
const CONTROL_PLANE_READY = { port: 8080, path: "/ready" };
const AGENT_READY = { port: 8000, path: "/readyz" };
const ZTUNNEL_READY = { port: READINESS_PORT, path: "/healthz/ready" };
const NETNS_FOLDER = "/run/netns";
const CONTROL_PLANE_POD = "istiod-0";
/** Nobody at a terminal waits for draining. */
const STOP_GRACE_MS = 1000;
const READY_POLL_MS = 50;

interface Running {
  readonly part: Part;
  readonly role: Process["role"];
  readonly namespace: LabNamespace;
  readonly program: Program;
}

export class Mesh {
  readonly #options: MeshOptions;
  readonly #objects: SystemObjects;
  readonly #running: Running[] = [];
  readonly #namespaces: { readonly namespace: LabNamespace; readonly veth: string }[] = [];
  readonly #files = new Map<string, NodeFiles>();
  readonly #disposables: Disposable[] = [];

  private constructor(options: MeshOptions) {
    this.#options = options;
    this.#objects = new SystemObjects({ store: options.store, log: options.log });
  }

  /** Every process has been started when it resolves; `ready` waits until they work. */
  static async start(options: MeshOptions): Promise<Mesh> {
    const mesh = new Mesh(options);
    try {
      await mesh.#start();
      return mesh;
    } catch (error) {
      await mesh.close();
      throw error;
    }
  }

  /** `https://address:port` of xDS and CA. */
  get address(): string {
    return controlPlaneUrl(this.#options.plan);
  }

  get processes(): Process[] {
    return this.#running.map(({ part, role, namespace, program }) => ({
      ...{ role, pid: program.pid, namespace: namespace.name },
      node: role === "control plane" ? "-" : part.node,
      address: part.address.v4,
    }));
  }

  /** As the CNI plugin: waits for the node's agent and asks it. Rejects with the reason. */
  async admit(node: string, sandbox: NewSandbox, signal: AbortSignal): Promise<void> {
    const agent = this.#running.find(({ part, role }) => role === "node agent" && part.node === node);
    const ztunnel = this.#running.find(({ part, role }) => role === "ztunnel" && part.node === node);
    const waits = () => agent?.program.problem !== undefined || ztunnel?.program.problem !== undefined;
    while (waits() && !signal.aborted) await sleep(READY_POLL_MS, signal);
    await addPod(join(this.#files.get(node)?.agentFolder ?? "", "pluginevent.sock"), sandbox, signal);
  }

  /** Waits until everything is ready or the signal aborts; `waiting` hears what for. Rejects with NotReadyError in time. */
  async ready(timeoutMs: number, waiting: (text: string) => void, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!signal.aborted) {
      const open = this.#running.filter(({ program }) => program.problem !== undefined);
      if (open.length === 0) return;
      const text = open.map(({ program }) => `${program.name}: ${program.problem}`).join("; ");
      waiting(text);
      if (performance.now() > deadline) {
        throw new NotReadyError(
          text,
          open.map(({ program }) => program.logPath),
        );
      }
      await sleep(READY_POLL_MS, signal);
    }
  }

  /** Ends the agents, so that nobody looks after pods that are being taken down. */
  async stopAgents(): Promise<void> {
    const agents = this.#running.filter(({ role }) => role === "node agent");
    await Promise.all(agents.map(({ program }) => program.stop(STOP_GRACE_MS)));
  }

  /** Proxies before the control plane, and all before the namespaces: a connection whose end has vanished takes minutes to end. */
  async close(): Promise<void> {
    for (const role of ["node agent", "ztunnel", "control plane"]) {
      const some = this.#running.filter((one) => one.role === role);
      await Promise.all(some.map(({ program }) => program.stop(STOP_GRACE_MS)));
    }
    for (const disposable of this.#disposables) disposable[Symbol.dispose]();
    await this.#objects.close();
    await Promise.all(
      this.#namespaces.map(async ({ namespace, veth }) => {
        await deleteLink(veth);
        await namespace.delete();
      }),
    );
  }

  async #start(): Promise<void> {
    const { plan, store, folder, state, clusterDomain, log } = this.#options;
    const nodes = plan.nodes.map((node) => ({ node, agent: agentPart(node), ztunnel: ztunnelPart(node) }));
    const first = plan.nodes[0]?.name ?? "";
    const controlPlane: Part = {
      ...{ workload: "istiod", podName: CONTROL_PLANE_POD, node: first },
      ...{ address: plan.controlPlane, hostNetwork: false },
    };
    const roots = new RootsFile({ store, path: join(folder, "root-cert.pem"), log });
    const host = new HostNamespace();
    this.#disposables.push(roots, host);
    const issuer = await TokenIssuer.open(join(state, "keys"));
    await this.#objects.declare(plan, [controlPlane, ...nodes.flatMap(({ agent, ztunnel }) => [agent, ztunnel])]);

    const [home, ...homes] = await Promise.all([
      this.#createNamespace("istiod", 0, plan.controlPlane),
      ...plan.nodes.map((node, index) => this.#createNamespace(node.name, index + 1, node.address)),
    ]);
    if (home === undefined) return;
    this.#run("control plane", controlPlane, home, CONTROL_PLANE_READY, {
      name: "control plane",
      log: "control-plane.log",
      ...launchControlPlane({
        ...{ namespace: home, podName: CONTROL_PLANE_POD, plan, clusterDomain, state },
        ...{ jwks: issuer.jwksPath, version: VERSION },
      }),
    });
    for (const [index, { node, agent, ztunnel }] of nodes.entries()) {
      const namespace = homes[index];
      if (namespace === undefined) continue;
      const files = this.#writeNodeFiles(node);
      this.#run("node agent", agent, namespace, AGENT_READY, {
        name: `node agent of ${node.name}`,
        log: `node-agent-${node.name}.log`,
        ...launchAgent({ namespace, node, files, netnsFolder: NETNS_FOLDER, hostNamespace: host.path, state }),
      });
      const subject = { namespace: SYSTEM_NAMESPACE, node: node.name, ...this.#objects.subjectOf(ztunnel.podName) };
      this.#disposables.push(await TokenFile.write(issuer, subject, files.token, log));
      this.#run("ztunnel", ztunnel, namespace, ZTUNNEL_READY, {
        name: `ztunnel of ${node.name}`,
        log: `${ztunnel.podName}.log`,
        ...launchZtunnel({ namespace, node, podName: ztunnel.podName, files, plan, clusterDomain, roots: roots.path }),
      });
    }
  }

  #run(
    role: Process["role"],
    part: Part,
    namespace: LabNamespace,
    ready: { readonly port: number; readonly path: string },
    launch: Launch & { readonly name: string; readonly log: string },
  ): void {
    const changed = () => {
      const { pid, problem, restarts } = program;
      this.#objects.update(part.podName, { pid, problem, restarts });
    };
    const program: Program = new Program({
      ...launch,
      log: new LogFile(join(this.#options.logsFolder, launch.log)),
      check: () => askReady(namespace.path, { ip: LOOPBACK, port: ready.port }, ready.path),
      changed,
    });
    this.#running.push({ part, role, namespace, program });
  }

  async #createNamespace(label: string, serial: number, address: AddressPair): Promise<LabNamespace> {
    const { lan, veth } = this.#options;
    const namespace = await LabNamespace.create(label);
    this.#namespaces.push({ namespace, veth: veth(serial) });
    await attach(namespace, veth(serial), address, lan);
    return namespace;
  }

  #writeNodeFiles({ name }: NodePlan): NodeFiles {
    const files = nodeFiles(join(this.#options.folder, name));
    mkdirSync(files.folder, { mode: 0o700 });
    writeFileSync(join(files.folder, "resolv.conf"), `nameserver ${this.#options.lan.gateway.v4}\n`);
    writeFileSync(join(files.folder, "hosts"), "127.0.0.1 localhost\n::1 localhost\n");
    this.#files.set(name, files);
    return files;
  }
}

/** `logs`: of what is not ready. */
export class NotReadyError extends Error {
  readonly logs: readonly string[];

  constructor(text: string, logs: readonly string[]) {
    super(`the mesh did not become ready: ${text}`);
    this.logs = logs;
  }
}

function agentPart(node: NodePlan): Part {
  const { name, address } = node;
  return { workload: "istio-cni-node", podName: `istio-cni-node-${name}`, node: name, address, hostNetwork: true };
}

function ztunnelPart(node: NodePlan): Part {
  const { name, address } = node;
  return { workload: "ztunnel", podName: `ztunnel-${name}`, node: name, address, hostNetwork: false };
}
