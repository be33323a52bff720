import type { Duplex } from "node:stream";
import type { Store } from "@tulle/store";

/** A Kubernetes cluster as the command line uses it. */
export interface Cluster extends AsyncDisposable {
  /** For messages: which kubeconfig and context. */
  readonly name: string;
  /** Namespace of the context. */
  readonly namespace: string;
  readonly store: Store;
  /** `v1.36.3`. Rejects with StoreError. */
  serverVersion(): Promise<string>;
  /** A connection to a port on the loopback of a pod. Rejects with CliError. */
  dial(pod: { readonly namespace: string; readonly name: string }, port: number): Promise<Duplex>;
}

/** Which cluster, and as whom. Default: what the kubeconfig says. */
export interface ClusterOptions {
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
  /** A local mesh by its name, or AUTO: the one of this machine when no cluster is configured. Default: a cluster. */
  readonly local?: string | undefined;
}
