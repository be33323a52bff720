import type { Clock, Log, Random } from "@tulle/base";
import type { Store } from "./contract.ts";
import { type Environment, inClusterConnection } from "./kube/in-cluster.ts";
import { parseStoreConfig, type StoreConfig } from "./store-config.ts";

export interface OpenStoreOptions {
  /** Who opens it, in Events and as manager of patched fields: `tulle-control-plane`. */
  readonly component: string;
  /** Name of this instance in Events: the node or pod. */
  readonly instance?: string;
  readonly env: Environment;
  /** Default: `parseStoreConfig(env)`. */
  readonly config?: StoreConfig;
  readonly log?: Log;
  readonly clock?: Clock;
  readonly random?: Random;
}

/**
 * The store that the configuration names. A Kubernetes store does not speak to the API server yet; a directory is read
 * first. Rejects with MeshError CONFIG_INVALID, or StoreError when credentials or folders cannot be read.
 */
export async function openStore(options: OpenStoreOptions): Promise<Store> {
  const { env, config = parseStoreConfig(env), ...rest } = options;
  if (config.type === "directory") {
    const { DirectoryStore } = await import("./directory/directory-store.ts");
    return DirectoryStore.open({ ...rest, directory: config.directory, state: config.state });
  }
  const { KubernetesStore } = await import("./kube/kubernetes-store.ts");
  if (config.access === "in-cluster") return new KubernetesStore({ ...rest, connection: inClusterConnection(env) });
  const { kubeconfigConnection } = await import("./kube/kubeconfig.ts");
  return new KubernetesStore({ ...rest, connection: await kubeconfigConnection(env, config) });
}
