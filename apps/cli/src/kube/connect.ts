import type { Duplex } from "node:stream";
import { kubeconfigConnection, type KubeConnection, KubernetesStore, type Store } from "@tulle/store";
import type { Cluster, ClusterOptions } from "./cluster.ts";

/** The cluster that a kubeconfig names. Nothing is asked of it yet. Rejects with StoreError. */
export async function connectCluster(
  options: ClusterOptions,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Cluster> {
  const connection = await kubeconfigConnection(env, {
    ...(options.kubeconfig !== undefined && { files: [options.kubeconfig] }),
    ...(options.context !== undefined && { context: options.context }),
  });
  return new KubernetesCluster(connection);
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
