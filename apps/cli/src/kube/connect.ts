import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import {
  isInCluster,
  kubeconfigConnection,
  type KubeConnection,
  KubernetesStore,
  type Store,
  StoreError,
} from "@tulle/store";
import { CliError } from "../cli-error.ts";
import { AUTO } from "../command.ts";
import type { Cluster, ClusterOptions } from "./cluster.ts";

/** What to do about a kubeconfig that is not there or cannot be used. */
const CHOOSE =
  "choose a cluster with --kubeconfig FILE and --context NAME (kubectl config view shows yours), or run a mesh here: tulle up DIR";

type Environment = Readonly<Record<string, string | undefined>>;

/** The cluster or the local mesh that the options name. Rejects with CliError or StoreError. */
export async function connect(options: ClusterOptions, env: Environment): Promise<Cluster> {
  const { local } = options;
  if (local === undefined) return connectCluster(options, env);
  const named = options.kubeconfig ?? options.context;
  if (local !== AUTO && named !== undefined) {
    throw new CliError("--local and a kubeconfig or context exclude each other", "give one of them");
  }
  if (local === AUTO && (named !== undefined || isConfigured(env))) return connectCluster(options, env);
  const { connectLocal, localMeshes } = await import("./local-mesh.ts");
  if (local !== AUTO) return connectLocal(local);
  const meshes = localMeshes();
  const candidates = meshes.length > 1 ? meshes.filter(({ owner }) => owner !== undefined) : meshes;
  const [mesh, another] = candidates;
  if (mesh !== undefined && another === undefined) return connectLocal(mesh.name);
  if (meshes.length === 0) return connectCluster(options, env);
  const names = meshes.map(({ name }) => name).join(", ");
  throw new CliError(`there are several local meshes: ${names}`, "name one of them: --local NAME");
}

function isConfigured(env: Environment): boolean {
  if ((env.KUBECONFIG ?? "") !== "" || isInCluster(env)) return true;
  return existsSync(join(env.HOME ?? homedir(), ".kube", "config"));
}

/** The cluster that a kubeconfig names. Nothing is asked of it yet. Rejects with CliError or StoreError. */
export async function connectCluster(options: ClusterOptions, env: Environment): Promise<Cluster> {
  try {
    const connection = await kubeconfigConnection(env, {
      ...(options.kubeconfig !== undefined && { files: [options.kubeconfig] }),
      ...(options.context !== undefined && { context: options.context }),
    });
    return new KubernetesCluster(connection);
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== "INVALID") throw error;
    throw new CliError(error.message, CHOOSE, error);
  }
}

class KubernetesCluster implements Cluster {
  readonly name: string;
  readonly namespace: string;
  readonly store: Store;
  readonly #store: KubernetesStore;
  readonly #connection: KubeConnection;

  constructor(connection: KubeConnection) {
    this.#connection = connection;
    this.#store = new KubernetesStore({ connection, component: "tulle" });
    this.store = this.#store;
    this.name = connection.source;
    this.namespace = connection.namespace;
  }

  async serverVersion(): Promise<string> {
    const { gitVersion } = await this.#store.api.request<{ gitVersion: string }>("GET", "/version", {
      what: "ask for the version",
    });
    return gitVersion;
  }

  async dial(pod: { readonly namespace: string; readonly name: string }, port: number): Promise<Duplex> {
    const { portForward } = await import("./port-forward.ts");
    return portForward(this.#connection, pod, port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }
}
