import { spawn } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { run, until } from "@tulle/lab";
import { ApiClient } from "./api-client.ts";
import { artifact } from "./artifacts.ts";
import { makeClustersRoot, withLock } from "./cluster-folder.ts";
import { ClusterSpace, startTime } from "./cluster-space.ts";
import {
  makeBridge,
  PROGRAMS,
  startApi,
  startApiServer,
  startControllers,
  startRelays,
  stopControllers,
} from "./control-plane.ts";
import { configureNode, removeAllCgroups, startNode, stopNode } from "./node.ts";
import { kubeconfig, makePki } from "./pki.ts";
import { type ClusterSettings, clusterSettings, nodeName } from "./settings.ts";

/** From a started kubelet to a node that is Ready: two seconds on a quiet machine. */
const NODES_READY_LIMIT_MS = 120_000;
const DNS_READY_LIMIT_MS = 120_000;
/** Unpacking a large image on a busy disk. */
const IMPORT_LIMIT_MS = 180_000;
const KUBECTL_LIMIT_MS = 120_000;
const COREDNS = join(import.meta.dirname, "..", "manifests", "coredns.yaml");

export interface UpOptions {
  /** Says what is done, one step a call. */
  readonly say?: (step: string) => void;
  /** The cluster ends with this process; what is left in files goes with the next `removeAbandoned`. Default: it stays. */
  readonly owned?: boolean;
}

/** A Kubernetes cluster on this machine, in namespaces of its own: it touches no link, no route and no firewall of the host. */
export class Cluster {
  readonly settings: ClusterSettings;
  readonly space: ClusterSpace;
  readonly api: ApiClient;

  constructor(settings: ClusterSettings = clusterSettings()) {
    this.settings = settings;
    this.space = new ClusterSpace(settings.folder);
    this.api = new ApiClient(settings.folder);
  }

  /** For kubectl and everything else outside of the cluster's namespaces. */
  get kubeconfig(): string {
    return join(this.settings.folder, "kubeconfig");
  }

  get running(): boolean {
    return this.space.alive;
  }

  /** Of the nodes, n1 first. */
  get nodeNumbers(): readonly number[] {
    return Array.from({ length: this.settings.nodes }, (_, index) => index + 1);
  }

  /** Brings it up: all nodes Ready, DNS answering. Throws when it runs already; removes what a crashed one left. */
  async up({ say = () => {}, owned = false }: UpOptions = {}): Promise<void> {
    makeClustersRoot();
    await withLock(this.settings.folder, () => this.#up(say, owned));
  }

  /** Ends it and removes everything of it, also of one that crashed. Idempotent. */
  async down(): Promise<void> {
    const { name, folder } = this.settings;
    await this.space.destroy();
    await removeAllCgroups(name);
    rmSync(folder, { recursive: true, force: true });
  }

  /** Ends a node like a power failure. */
  async stopNode(index: number): Promise<void> {
    this.#checkNode(index);
    await stopNode(this.space, this.settings, index);
  }

  /** Switches a node on again: a fresh boot id, no pod sandboxes, the disk as it was. Does not wait for Ready. */
  async startNode(index: number): Promise<void> {
    this.#checkNode(index);
    await startNode(this.space, this.settings, index);
  }

  /**
   * Kills the API server, and with it the controller manager and the scheduler, which elsewhere end by themselves when they
   * cannot renew their lease. Etcd and the nodes run on.
   */
  async stopApiServer(): Promise<void> {
    await this.space.stop("kube-apiserver");
    await stopControllers(this.space);
  }

  /** Starts them again; resolves when the API server is ready. */
  async startApiServer(): Promise<void> {
    await startApiServer(this.space, this.api);
    await startControllers(this.space);
  }

  /** Imports an image archive (OCI layout or docker-archive, in a tar) into the container runtime of every running node. */
  async loadImage(file: string): Promise<void> {
    const nodes = this.nodeNumbers.map(nodeName).filter((name) => this.space.running(name));
    await Promise.all(nodes.map((name) => this.#import(file, name)));
  }

  /** Runs the cluster's kubectl, outside of its namespaces. Returns its output, throws CommandError. */
  kubectl(
    args: readonly string[],
    options: { readonly input?: string; readonly timeoutMs?: number } = {},
  ): Promise<string> {
    return run(join(this.settings.folder, "bin", "kubectl"), args, {
      timeoutMs: KUBECTL_LIMIT_MS,
      ...options,
      environment: { KUBECONFIG: this.kubeconfig },
    });
  }

  /** Waits until all nodes that run are Ready, in their present boot. */
  async waitForNodes(timeoutMs: number): Promise<void> {
    const running = this.nodeNumbers.map(nodeName).filter((name) => this.space.running(name));
    await until(
      async () => {
        const list = await this.api.get<{ items: NodeObject[] }>("/api/v1/nodes");
        return running.every((name) => {
          const status = list?.items.find((item) => item.metadata.name === name)?.status;
          const ready = status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
          return ready && status?.nodeInfo.bootID === this.bootId(name);
        });
      },
      { what: `the nodes ${running.join(", ")} to be Ready`, timeoutMs, intervalMs: 100 },
    );
  }

  /** What the node believes of its present boot. */
  bootId(node: string): string {
    return readFileSync(this.space.path(join(this.settings.folder, "data", node, "sys", "boot_id")), "utf8").trim();
  }

  async #up(say: (step: string) => void, owned: boolean): Promise<void> {
    const { folder, nodes } = this.settings;
    if (this.running)
      throw new Error(`the cluster ${this.settings.name} runs already: \`npm run cluster -- down\` ends it`);
    await this.down();
    try {
      this.#prepare(owned);
      say("certificates and namespaces");
      await Promise.all([makePki(join(folder, "pki"), nodes), this.space.create({ owned })]);
      await makeBridge(this.space);
      await startRelays(this.space, join(folder, "api-address"));
      await until(() => existsSync(join(folder, "api-address")), { what: "the relay to the API server" });
      writeFileSync(this.kubeconfig, kubeconfig(join(folder, "pki"), "admin", this.api.server), { mode: 0o600 });

      say(`API server and the container runtimes of ${nodes} nodes`);
      for (const index of this.nodeNumbers) configureNode(this.settings, index);
      await Promise.all([
        this.#startApi(),
        ...this.nodeNumbers.map((index) => startNode(this.space, this.settings, index)),
      ]);
      say("nodes");
      await this.waitForNodes(NODES_READY_LIMIT_MS);
      say("DNS");
      await this.#startDns();
    } catch (error) {
      // The folder stays, for its logs; the next up or down removes it.
      await this.space.destroy();
      throw new Error(`the cluster did not come up (logs in ${folder}/log): ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  async #startApi(): Promise<void> {
    await startApi(this.space, this.api);
    writeFileSync(join(this.settings.folder, "api-was-ready"), "");
    await startControllers(this.space);
  }

  async #startDns(): Promise<void> {
    await until(() => this.api.get("/api/v1/namespaces/kube-system"), { what: "the namespace kube-system" });
    await this.kubectl(["apply", "--server-side", "-f", COREDNS]);
    await until(
      async () => {
        const path = "/apis/apps/v1/namespaces/kube-system/deployments/coredns";
        const deployment = await this.api.get<{ status: { readyReplicas?: number } }>(path);
        const account = await this.api.get("/api/v1/namespaces/default/serviceaccounts/default");
        return deployment?.status.readyReplicas === 1 && account !== undefined;
      },
      { what: "CoreDNS to be ready", timeoutMs: DNS_READY_LIMIT_MS, intervalMs: 100 },
    );
  }

  #prepare(owned: boolean): void {
    const { folder } = this.settings;
    mkdirSync(folder, { mode: 0o700 });
    for (const name of ["bin", "data", "images", "log", "nodes", "pids"]) mkdirSync(join(folder, name));
    writeFileSync(join(folder, "settings.json"), JSON.stringify(this.settings));
    if (owned) writeFileSync(join(folder, "owner"), `${process.pid} ${startTime(process.pid)}`);
    for (const { file, source, links } of PROGRAMS) {
      linkOrCopy(source(), join(folder, "bin", file));
      for (const link of links) symlinkSync(file, join(folder, "bin", link));
    }
    for (const name of ["coredns", "labbox"] as const) {
      linkOrCopy(artifact(name, `${name}.tar`), join(folder, "images", `${name}.tar`));
    }
  }

  async #import(file: string, node: string): Promise<void> {
    const [program = "", ...args] = this.space.enter(["ctr", "-n", "k8s.io", "images", "import", "-"], { node });
    // As standard input: a node has its own /run, and may not see the path.
    const archive = openSync(file, "r");
    await new Promise<void>((resolve, reject) => {
      let errors = "";
      const child = spawn(program, args, { stdio: [archive, "ignore", "pipe"], timeout: IMPORT_LIMIT_MS });
      child.stderr?.setEncoding("utf8").on("data", (text: string) => {
        errors += text;
      });
      child.on("error", reject);
      child.on("close", (code) => {
        if (code === 0) resolve();
        else reject(new Error(`node ${node} did not take ${basename(file)}: ${errors.trim() || `exit code ${code}`}`));
      });
    }).finally(() => closeSync(archive));
  }

  #checkNode(index: number): void {
    if (!this.nodeNumbers.includes(index))
      throw new RangeError(`no node ${index}: there are 1 to ${this.settings.nodes}`);
  }
}

interface NodeObject {
  readonly metadata: { readonly name: string };
  readonly status: {
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly nodeInfo: { readonly bootID: string };
  };
}

function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    // Another file system.
    copyFileSync(from, to);
  }
}
