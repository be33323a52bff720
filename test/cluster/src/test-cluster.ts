import { type CommandOptions, run, until } from "@tulle/lab";
import { BridgeCapture } from "./bridge-capture.ts";
import { build } from "./build.ts";
import { Cluster } from "./cluster.ts";
import { existingCluster, removeAbandoned } from "./clusters.ts";
import { containerPid, getPod, type PodObject, type PodReference, podReference } from "./containers.ts";
import { HeldConnection, type HoldOptions } from "./held-connection.ts";
import { Load, type LoadOptions } from "./load.ts";
import { clusterSettings, nodeName } from "./settings.ts";

export interface TestClusterOptions {
  /** Default: one that no other process uses. */
  readonly name?: string;
  /** Default 2. */
  readonly nodes?: number;
  /** Says what is done. Default: nothing. */
  readonly say?: (step: string) => void;
}

export interface EndpointOptions {
  /** The pod that asks; it runs labbox. */
  readonly from: PodReference;
  readonly url: string;
  /** What the answer (`200 {…}`) must hold. */
  readonly answer: string | RegExp;
  /** Default 30 s. */
  readonly timeoutMs?: number;
}

type Options = Omit<CommandOptions, "namespace" | "environment">;

/** Rollouts of a few pods take seconds; a busy machine gets more. */
const ROLLOUT_LIMIT_MS = 120_000;
const NODE_READY_LIMIT_MS = 120_000;
/** kube-proxy and CoreDNS learn of a new endpoint up to a second after the pod is Ready. */
const ENDPOINT_LIMIT_MS = 30_000;
const EXEC_LIMIT_MS = 30_000;
/** Between two questions to the API server or an endpoint. */
const POLL_MS = 100;

/** A cluster for tests: what they do with it, in their words. Pods are `name` (in default) or `namespace/name`. */
export class TestCluster implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly #ours: boolean;

  private constructor(cluster: Cluster, ours: boolean) {
    this.cluster = cluster;
    this.#ours = ours;
  }

  /** Brings one up that goes with this process, and removes those whose process has gone. */
  static async up({ name = `test-${process.pid}`, nodes, say }: TestClusterOptions = {}): Promise<TestCluster> {
    await build();
    await removeAbandoned();
    const cluster = new Cluster(clusterSettings({ name, ...(nodes === undefined ? {} : { nodes }) }));
    await cluster.up({ owned: true, ...(say === undefined ? {} : { say }) });
    return new TestCluster(cluster, true);
  }

  /** One that `npm run cluster -- up` made; `down` leaves it alone. Throws when it does not run. */
  static attach(name?: string): TestCluster {
    const cluster = existingCluster(clusterSettings(name === undefined ? {} : { name }));
    if (!cluster.running)
      throw new Error(`no cluster ${cluster.settings.name} runs: \`npm run cluster -- up\` starts it`);
    return new TestCluster(cluster, false);
  }

  async down(): Promise<void> {
    if (this.#ours) await this.cluster.down();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
  }

  get kubeconfig(): string {
    return this.cluster.kubeconfig;
  }

  /** Returns its standard output, throws CommandError. */
  kubectl(args: readonly string[], options: Options = {}): Promise<string> {
    return this.cluster.kubectl(args, options);
  }

  /** YAML, or objects. */
  async apply(what: string | object, namespace?: string): Promise<void> {
    const input = typeof what === "string" ? what : JSON.stringify(Array.isArray(what) ? list(what) : what);
    await this.kubectl(["apply", ...inNamespace(namespace), "-f", "-"], { input });
  }

  /** Deletes what the YAML or the objects name, and waits until it is gone. */
  async delete(what: string | object, namespace?: string): Promise<void> {
    const input = typeof what === "string" ? what : JSON.stringify(Array.isArray(what) ? list(what) : what);
    await this.kubectl(["delete", ...inNamespace(namespace), "--ignore-not-found", "-f", "-"], { input });
  }

  /** Waits until all pods of `deploy/x`, `ds/x` are the new ones and Ready. */
  async rollout(target: string, namespace = "default", timeoutMs = ROLLOUT_LIMIT_MS): Promise<void> {
    const limit = `--timeout=${Math.ceil(timeoutMs / 1000)}s`;
    await this.kubectl(["rollout", "status", target, "-n", namespace, limit], { timeoutMs: timeoutMs + EXEC_LIMIT_MS });
  }

  /** An object by its path in the API; undefined when it is not there. */
  get<T = Record<string, unknown>>(path: string): Promise<T | undefined> {
    return this.cluster.api.get<T>(path);
  }

  pod(reference: PodReference): Promise<PodObject> {
    return getPod(this.cluster.api, reference);
  }

  /** Those that are not being deleted, by name. `selector` as kubectl takes it: `app=echo`. */
  async pods(selector: string, namespace = "default"): Promise<PodObject[]> {
    const path = `/api/v1/namespaces/${namespace}/pods?labelSelector=${encodeURIComponent(selector)}`;
    const list = await this.cluster.api.get<{ items: PodObject[] }>(path);
    return (list?.items ?? [])
      .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
      .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  }

  /** Runs a command in a pod's container as `kubectl exec` does. Returns its standard output, throws CommandError. */
  exec(pod: PodReference, command: readonly string[], options: Options & { container?: string } = {}): Promise<string> {
    const { container, ...rest } = options;
    const { namespace, name } = podReference(pod);
    const where = [name, "-n", namespace, ...(container === undefined ? [] : ["-c", container])];
    const stdin = options.input === undefined ? [] : ["-i"];
    return this.kubectl(["exec", ...stdin, ...where, "--", ...command], { timeoutMs: EXEC_LIMIT_MS, ...rest });
  }

  /** Runs a command in all namespaces of a pod's container, with the files that it has, but neither by kubelet nor the API server. */
  async execDirectly(
    pod: PodReference | PodObject,
    command: readonly string[],
    options: Options = {},
  ): Promise<string> {
    const [program = "", ...args] = [...(await this.#enterPod(pod)), ...command];
    return run(program, args, { timeoutMs: EXEC_LIMIT_MS, ...options });
  }

  /** Runs a command on a node (1 is n1), where PID 1 is the node's. */
  nodeExec(node: number, command: readonly string[], options: Options = {}): Promise<string> {
    return this.cluster.space.run(command, { timeoutMs: EXEC_LIMIT_MS, ...options }, { node: nodeName(node) });
  }

  /** Ends a node like a power failure. */
  nodeStop(node: number): Promise<void> {
    return this.cluster.stopNode(node);
  }

  /** Switches a node on again; resolves when it is Ready in its new boot. */
  async nodeStart(node: number): Promise<void> {
    await this.cluster.startNode(node);
    await this.cluster.waitForNodes(NODE_READY_LIMIT_MS);
  }

  /** Waits for the Ready condition of a node to be that. */
  async waitForNode(node: number, ready: "True" | "False" | "Unknown", timeoutMs = NODE_READY_LIMIT_MS): Promise<void> {
    const name = nodeName(node);
    await until(
      async () => {
        const object = await this.get<PodObject>(`/api/v1/nodes/${name}`);
        return object?.status.conditions?.some(({ type, status }) => type === "Ready" && status === ready);
      },
      { what: `Ready=${ready} of ${name}`, timeoutMs, intervalMs: POLL_MS },
    );
  }

  apiserverStop(): Promise<void> {
    return this.cluster.stopApiServer();
  }

  /** Resolves when it is ready. */
  apiserverStart(): Promise<void> {
    return this.cluster.startApiServer();
  }

  /** Imports an image archive into every node that runs. */
  load(imageTar: string): Promise<void> {
    return this.cluster.loadImage(imageTar);
  }

  /** Records what goes over every bridge from now on. */
  captureBridges(filter?: string): Promise<BridgeCapture> {
    return BridgeCapture.start(this.cluster, filter);
  }

  /** Requests from a pod (which runs labbox) until `stop`. */
  async startLoad(pod: PodReference | PodObject, options: LoadOptions): Promise<Load> {
    return Load.start(await this.#enterPod(pod), options);
  }

  /** A TCP connection from a pod (which runs labbox) to a TCP echo, held until `stop`. */
  async holdConnection(pod: PodReference | PodObject, options: HoldOptions): Promise<HeldConnection> {
    return HeldConnection.start(await this.#enterPod(pod), options);
  }

  /** Waits until the endpoint answers the pod as it should, once; returns the answer. */
  async waitForEndpoint({ from, url, answer, timeoutMs = ENDPOINT_LIMIT_MS }: EndpointOptions): Promise<string> {
    const pod = await this.pod(from);
    let last = "";
    return until(
      async () => {
        last = (await this.execDirectly(pod, ["/labbox", "get", "-timeout=5s", url])).trim();
        if (typeof answer === "string" ? last.includes(answer) : answer.test(last)) return last;
        throw new Error(`it said ${last}`);
      },
      { what: `${url} to answer ${from} with ${answer}`, timeoutMs, intervalMs: POLL_MS },
    );
  }

  async #enterPod(pod: PodReference | PodObject): Promise<string[]> {
    const object = typeof pod === "string" ? await this.pod(pod) : pod;
    const pid = containerPid(this.cluster.settings, object);
    return ["nsenter", `--target=${pid}`, "--mount", "--uts", "--ipc", "--net", "--pid", "--"];
  }
}

function inNamespace(namespace: string | undefined): string[] {
  return namespace === undefined ? [] : ["-n", namespace];
}

function list(items: readonly object[]) {
  return { apiVersion: "v1", kind: "List", items };
}
