import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { Server, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CAPTURED_CONDITION, silentLog } from "@tulle/base";
import { connectFrom, Lab, type LabHost, listenIn, run, until } from "@tulle/lab";
import { type Config, readConfig } from "../src/config.ts";
import { PODS, type Pod, type PodCondition } from "../src/objects.ts";
import { type NodeAgent, startNodeAgent } from "../src/wire.ts";
import { MemoryStore } from "./memory-store.ts";
import { APP_PORT, greet, ZtunnelDouble } from "./ztunnel-double.ts";

export const NODE = "n1";
export const MODE = "istio.io/dataplane-mode";
export const SERVER_PORT = 9090;

/** A pod of the test: an object in the store and a network namespace with an application that greets as "app". */
export interface TestPod {
  readonly name: string;
  readonly uid: string;
  readonly host: LabHost;
  /** As the runtime calls it. */
  readonly netns: string;
}

export interface TestNodeOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Default true: one connects as soon as the agent is there. */
  readonly ztunnel?: boolean;
}

/** Takes a namespace's file away, as the runtime does when the pod is gone, whoever looks into it at this moment. */
export async function unmount(path: string): Promise<void> {
  await run("umount", ["-l", path]);
}

/** One node: the agent as it is wired, namespaces and rules of the kernel, a store in memory, ztunnel's double. */
export class TestNode implements AsyncDisposable {
  readonly lab: Lab;
  readonly store = new MemoryStore();
  readonly folder = mkdtempSync(join(tmpdir(), "tulle-agent-"));
  readonly netns = join(this.folder, "netns");
  readonly config: Config;
  readonly server: LabHost;
  agent: NodeAgent | undefined;
  ztunnel: ZtunnelDouble | undefined;
  bootId = "boot-1";
  readonly #servers: (Server & AsyncDisposable)[] = [];
  readonly #mounts: string[] = [];
  #pods = 0;

  private constructor(lab: Lab, server: LabHost, env: Readonly<Record<string, string>>) {
    this.lab = lab;
    this.server = server;
    mkdirSync(this.netns);
    this.config = readConfig({
      NODE_NAME: NODE,
      CNI_NETNS_DIR: this.netns,
      CNI_AGENT_RUN_DIR: join(this.folder, "run"),
      ZTUNNEL_UDS_ADDRESS: join(this.folder, "zds", "ztunnel.sock"),
      TULLE_HOST_NETNS: lab.fabric.path,
      TULLE_PEER_CHECK: "annotation",
      TULLE_INSTALL_CNI: "false",
      TULLE_ON_TERMINATION: "keep",
      TULLE_READINESS_PORT: "0",
      TULLE_METRICS_PORT: "0",
      TULLE_LEAVE_TIMEOUT: "2s",
      TULLE_DRAIN_DEADLINE: "1s",
      ...env,
    });
  }

  static async create(options: TestNodeOptions = {}): Promise<TestNode> {
    const lab = await Lab.create();
    const server = await lab.host("server");
    const node = new TestNode(lab, server, options.env ?? {});
    node.#servers.push(await listenIn(server.namespace.path, { ip: "::", port: SERVER_PORT }, greet("server")));
    node.namespace("default", "ambient");
    node.store.put({
      apiVersion: "v1",
      kind: "Pod",
      metadata: {
        name: "ztunnel",
        namespace: "istio-system",
        uid: "z",
        labels: { app: "ztunnel" },
        annotations: { "tulle.dev/pid": String(process.pid) },
      },
      spec: { nodeName: NODE },
    });
    await node.start();
    if (options.ztunnel !== false) await node.connectZtunnel();
    return node;
  }

  async start(): Promise<void> {
    this.agent = await startNodeAgent({
      config: this.config,
      env: {},
      log: silentLog,
      store: this.store,
      bootId: this.bootId,
    });
  }

  /** As another agent follows: what is in force stays. */
  async restart(): Promise<void> {
    await this.agent?.terminate();
    await this.start();
  }

  async connectZtunnel(): Promise<ZtunnelDouble> {
    const double = new ZtunnelDouble(this.config.zdsSocket);
    this.ztunnel = double;
    await until(() => double.ready, { what: "ztunnel's snapshot" });
    return double;
  }

  namespace(name: string, mode?: string): void {
    const labels = mode === undefined ? {} : { [MODE]: mode };
    this.store.put({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
  }

  /** A namespace with an application, which no object speaks of yet. */
  async sandbox(): Promise<TestPod> {
    const number = ++this.#pods;
    const host = await this.lab.host(`pod${number}`);
    const netns = join(this.netns, `cni-${number}`);
    writeFileSync(netns, "");
    await run("mount", ["--bind", host.namespace.path, netns]);
    this.#mounts.push(netns);
    this.#servers.push(await listenIn(host.namespace.path, { ip: "::", port: APP_PORT }, greet("app")));
    return { name: `pod-${number}`, uid: `uid-${number}`, host, netns };
  }

  /** The pod's object. Its labels, annotations and the rest may be given. */
  object(pod: TestPod, fields: { labels?: object; annotations?: object; spec?: object; ip?: boolean } = {}): Pod {
    const ips = [pod.host.v4, ...(pod.host.v6 === undefined ? [] : [pod.host.v6])];
    return this.store.put({
      apiVersion: "v1",
      kind: "Pod",
      metadata: {
        name: pod.name,
        namespace: "default",
        uid: pod.uid,
        labels: { ...fields.labels },
        annotations: { ...fields.annotations },
      },
      spec: { nodeName: NODE, containers: [], ...fields.spec },
      status: fields.ip === false ? {} : { phase: "Running", podIP: pod.host.v4, podIPs: ips.map((ip) => ({ ip })) },
    });
  }

  /** A pod that runs already, in a namespace that says `ambient`; waits until it is captured. */
  async captured(fields: Parameters<TestNode["object"]>[1] = {}): Promise<TestPod> {
    const pod = await this.sandbox();
    this.object(pod, fields);
    await this.untilCaptured(pod);
    return pod;
  }

  pod(pod: TestPod): Pod {
    const found = this.store.find(PODS, { namespace: "default", name: pod.name });
    if (found === undefined) throw new Error(`${pod.name} does not exist`);
    return found;
  }

  /** Changes labels by hand, as kubectl does; null removes one. */
  async label(pod: TestPod, labels: Readonly<Record<string, string | null>>): Promise<void> {
    const body = { metadata: { labels } };
    await this.store.patch(PODS, { namespace: "default", name: pod.name }, { type: "merge", body });
  }

  async annotate(pod: TestPod, annotations: Readonly<Record<string, string | null>>): Promise<void> {
    const body = { metadata: { annotations } };
    await this.store.patch(PODS, { namespace: "default", name: pod.name }, { type: "merge", body });
  }

  condition(pod: TestPod): PodCondition | undefined {
    return this.pod(pod).status?.conditions?.find(({ type }) => type === CAPTURED_CONDITION);
  }

  annotations(pod: TestPod): Readonly<Record<string, string>> {
    return this.pod(pod).metadata.annotations ?? {};
  }

  untilCaptured(pod: TestPod): Promise<unknown> {
    return until(
      () =>
        this.condition(pod)?.status === "True" && this.annotations(pod)["ambient.istio.io/redirection"] === "enabled",
      { what: `${pod.name} to be captured`, timeoutMs: 15_000 },
    );
  }

  untilOutside(pod: TestPod): Promise<unknown> {
    return until(() => this.condition(pod) === undefined && Object.keys(this.annotations(pod)).length === 0, {
      what: `${pod.name} to be outside`,
      timeoutMs: 15_000,
    });
  }

  /** Events of a reason about a pod. */
  events(pod: TestPod, reason: string): readonly string[] {
    return this.store.events
      .filter((one) => one.about === pod.name && one.reason === reason)
      .map(({ message }) => message);
  }

  /** Who greets a new connection of the pod to the server. */
  outbound(pod: TestPod): Promise<string> {
    return greeting(connectFrom(pod.host.namespace.path, { ip: this.server.v4, port: SERVER_PORT }));
  }

  /** The control plane's answer to pods that leave. */
  answerLeaving(): Disposable {
    const timer = setInterval(() => {
      void this.store.list(PODS).then(async (pods) => {
        for (const { metadata } of pods) {
          const id = metadata.annotations?.["ambient.tulle.dev/leaving"];
          if (id === undefined || metadata.annotations?.["ambient.tulle.dev/left"] === id) continue;
          const body = { metadata: { annotations: { "ambient.tulle.dev/left": id } } };
          await this.store.patch(
            PODS,
            { namespace: metadata.namespace ?? "", name: metadata.name },
            { type: "merge", body },
          );
        }
      });
    }, 20);
    return { [Symbol.dispose]: () => clearInterval(timer) };
  }

  rules(pod: TestPod): Promise<string> {
    return pod.host.namespace.run("nft", ["list", "ruleset"]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ztunnel?.[Symbol.asyncDispose]();
    await this.agent?.terminate();
    for (const server of this.#servers) await server[Symbol.asyncDispose]();
    for (const mount of this.#mounts) await unmount(mount);
    rmSync(this.folder, { recursive: true, force: true });
    await this.lab.close();
  }
}

/** A connection that has been greeted. */
export class Connection implements Disposable {
  readonly socket: Socket;
  readonly name: string;
  #text = "";

  private constructor(socket: Socket, name: string) {
    this.socket = socket;
    this.name = name;
    socket.setEncoding("utf8").on("data", (text: string) => (this.#text += text));
  }

  static async open(connecting: Promise<Socket>): Promise<Connection> {
    const socket = await connecting;
    const [first] = (await once(socket, "data", { signal: AbortSignal.timeout(5000) })) as [Buffer];
    return new Connection(socket, first.toString().trim());
  }

  async echo(text: string): Promise<void> {
    this.socket.write(`${text}\n`);
    await until(() => this.#text.includes(`${text}\n`), { what: `the echo of ${text}` });
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

async function greeting(connecting: Promise<Socket>): Promise<string> {
  using connection = await Connection.open(connecting);
  return connection.name;
}
