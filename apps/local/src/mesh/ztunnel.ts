import { existsSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { READINESS_PORT } from "@tulle/base";
import { connectFrom, LabNamespace } from "@tulle/lab";
import type { NodePlan } from "../objects/addresses.ts";
import { Child } from "../runtime/child-process.ts";
import { LogFile } from "../runtime/log-file.ts";
import { attach, deleteLink, type Lan } from "../runtime/network.ts";
import { Restarting } from "../runtime/restarting.ts";
import { SYSTEM_NAMESPACE, ztunnelName } from "./credentials.ts";

/** A node: a network namespace with nothing in it but its ztunnel. */

export interface NodeOptions {
  readonly node: NodePlan;
  readonly lan: Lan;
  readonly veth: string;
  /** `https://address:port` of xDS and CA, and the file with their root certificate. */
  readonly controlPlane: string;
  readonly rootsFile: string;
  readonly token: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  readonly trustDomain: string;
  readonly meshCidrs: readonly string[];
  /** The node agent's socket. */
  readonly agentSocket: string;
  /** Where the node's own files go, 0700. */
  readonly folder: string;
  readonly logsFolder: string;
  readonly ipv6: boolean;
}

const MAIN = fileURLToPath(new URL("../../../ztunnel/src/main.ts", import.meta.url));
/** A crashed ztunnel stops all traffic of its node: it comes back at once. */
const RESTART_MS = 50;
/** ztunnel drains when it is told to end; nobody waits for that long at a terminal. */
const STOP_GRACE_MS = 1000;
const READINESS_TIMEOUT_MS = 1000;
/** What ztunnel needs of root: entering namespaces and marking sockets; reading files that belong to whoever runs the mesh. */
const CAPABILITIES = ["sys_admin", "net_admin", "net_raw", "dac_read_search"];

/** Shows its own resolv.conf and hosts, for ztunnel forwards names to the resolver that it finds there. */
const LAUNCH_SCRIPT = `
set -e
for f in resolv.conf hosts; do [ ! -e /etc/$f ] || mount -o bind "$1/$f" /etc/$f; done
shift
exec "$@"
`;

export class MeshNode {
  readonly name: string;
  readonly namespace: LabNamespace;
  readonly #options: NodeOptions;
  readonly #ztunnel: Restarting;

  private constructor(options: NodeOptions, namespace: LabNamespace) {
    this.name = options.node.name;
    this.namespace = namespace;
    this.#options = options;
    const log = new LogFile(join(options.logsFolder, `${ztunnelName(this.name)}.log`));
    const command = launchCommand(options, namespace);
    const env = environmentOf(options);
    this.#ztunnel = new Restarting({
      start: () => new Child(command, { log, env }),
      log,
      changed: () => {},
      restartMs: RESTART_MS,
    });
  }

  static async start(options: NodeOptions): Promise<MeshNode> {
    const { node, lan, veth, folder } = options;
    const namespace = await LabNamespace.create(node.name);
    try {
      await attach(namespace, veth, node.address, lan);
      writeFileSync(join(folder, "token"), options.token, { mode: 0o600 });
      writeFileSync(join(folder, "resolv.conf"), `nameserver ${lan.gateway.v4}\n`);
      writeFileSync(join(folder, "hosts"), "127.0.0.1 localhost\n::1 localhost\n");
      return new MeshNode(options, namespace);
    } catch (error) {
      await namespace.delete();
      throw error;
    }
  }

  get pid(): number | undefined {
    return this.#ztunnel.child?.pid;
  }

  get address(): string {
    return this.#options.node.address.v4;
  }

  /** Undefined when it is ready, else what its readiness server says. */
  notReady(): Promise<string | undefined> {
    return this.#get(READINESS_PORT, "/healthz/ready");
  }

  /** Ends ztunnel; the namespace stays, so that its last packets arrive. */
  stop(): Promise<void> {
    return this.#ztunnel.stop(STOP_GRACE_MS);
  }

  /** After `stop`. */
  async remove(): Promise<void> {
    await deleteLink(this.#options.veth);
    await this.namespace.delete();
  }

  async #get(port: number, path: string): Promise<string | undefined> {
    const { v4 } = this.#options.node.address;
    let socket: Awaited<ReturnType<typeof connectFrom>>;
    try {
      socket = await connectFrom(this.namespace.path, { ip: v4, port }, { timeoutMs: READINESS_TIMEOUT_MS });
    } catch {
      return this.pid === undefined ? "it is not running" : "it does not listen yet";
    }
    return new Promise((resolve) => {
      const fail = (error: Error) => resolve(error.message);
      const call = get(
        { path, host: v4, createConnection: () => socket, signal: AbortSignal.timeout(READINESS_TIMEOUT_MS) },
        (answer) => {
          let text = "";
          answer.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
          answer.on("error", fail);
          answer.on("end", () => resolve(answer.statusCode === 200 ? undefined : text.trim()));
        },
      );
      call.on("error", fail);
      call.on("close", () => socket.destroy());
    });
  }
}

function launchCommand({ folder }: NodeOptions, namespace: LabNamespace): string[] {
  const only = `-all,${CAPABILITIES.map((name) => `+${name}`).join(",")}`;
  return [
    ...["nsenter", `--net=${namespace.path}`, "unshare", "--mount", "--propagation", "private"],
    ...["sh", "-c", LAUNCH_SCRIPT, "sh", folder],
    ...["setpriv", "--bounding-set", only, "--inh-caps=-all", "--no-new-privs", "--pdeathsig", "KILL"],
    ...[process.execPath, MAIN],
  ];
}

function environmentOf(options: NodeOptions): NodeJS.ProcessEnv {
  const { node, controlPlane, rootsFile, folder, clusterId, clusterDomain, agentSocket, meshCidrs, ipv6 } = options;
  const cache = process.env.NODE_COMPILE_CACHE;
  return {
    PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin",
    NODE_NO_WARNINGS: "1",
    ...(cache !== undefined && existsSync(cache) ? { NODE_COMPILE_CACHE: cache } : {}),
    PROXY_MODE: "shared",
    NODE_NAME: node.name,
    INSTANCE_IP: node.address.v4,
    POD_NAME: ztunnelName(node.name),
    POD_NAMESPACE: SYSTEM_NAMESPACE,
    CLUSTER_ID: clusterId,
    CLUSTER_DOMAIN: clusterDomain,
    XDS_ADDRESS: controlPlane,
    CA_ADDRESS: controlPlane,
    XDS_ROOT_CA: rootsFile,
    CA_ROOT_CA: rootsFile,
    AUTH_TOKEN: join(folder, "token"),
    INPOD_UDS: agentSocket,
    MESH_CIDRS: meshCidrs.join(","),
    IPV6_ENABLED: String(ipv6),
    TERMINATION_GRACE_PERIOD_SECONDS: "1",
    TRUST_DOMAIN: options.trustDomain,
  };
}
