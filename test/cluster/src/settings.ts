import { join } from "node:path";

/** What distinguishes one cluster from another on the same machine. */
export interface ClusterSettings {
  /** Part of the names of its folder and cgroups, the only things that clusters share. */
  readonly name: string;
  /** How many nodes, n1 to n9. */
  readonly nodes: number;
  /** Everything that the cluster writes: keys, logs, the nodes' disks. */
  readonly folder: string;
}

/** In `TULLE_CLUSTER_NAME`'s absence. */
const DEFAULT_NAME = "tulle";
const DEFAULT_NODES = 2;
/** One digit names a node in addresses. */
export const MAX_NODES = 9;
/** Not under /run, /etc, /opt or /var/lib: nodes have their own of those. Not under /tmp, which is often small. */
const DEFAULT_ROOT = "/var/tmp/tulle-cluster";
/** Short enough for paths of sockets (108 bytes). */
const NAME = /^[a-z][a-z0-9-]{0,19}$/;

/** `TULLE_CLUSTER_NAME`, `TULLE_CLUSTER_NODES`, `TULLE_CLUSTER_ROOT`; what is given goes before. Throws RangeError. */
export function clusterSettings(
  given: { readonly name?: string; readonly nodes?: number } = {},
  environment: NodeJS.ProcessEnv = process.env,
): ClusterSettings {
  const name = given.name ?? (environment.TULLE_CLUSTER_NAME || DEFAULT_NAME);
  const nodes = given.nodes ?? Number(environment.TULLE_CLUSTER_NODES || DEFAULT_NODES);
  if (!NAME.test(name)) throw new RangeError(`TULLE_CLUSTER_NAME=${name}: want ${NAME.source}`);
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > MAX_NODES) {
    throw new RangeError(`TULLE_CLUSTER_NODES=${nodes}: want 1 to ${MAX_NODES}`);
  }
  return { name, nodes, folder: join(clustersRoot(environment), name) };
}

/** The folder of all clusters' folders. */
export function clustersRoot(environment: NodeJS.ProcessEnv = process.env): string {
  return environment.TULLE_CLUSTER_ROOT || DEFAULT_ROOT;
}

/** An address of each family. */
export interface DualAddress {
  readonly v4: string;
  readonly v6: string;
}

/** Every cluster has the same addresses: each is in a network namespace of its own. */
export const PLAN = {
  /** The bridge between the nodes; the control plane's end of it. */
  bridge: "nodes0",
  controlPlane: { v4: "10.89.0.1", v6: "fd10:89::1" },
  nodePrefixes: { v4: 24, v6: 64 },
  services: { v4: "10.96.0.0/16", v6: "fd10:96::/112" },
  pods: { v4: "10.244.0.0/16", v6: "fd10:244::/32" },
  apiServer: { v4: "10.96.0.1", v6: "fd10:96::1" },
  dns: { v4: "10.96.0.10", v6: "fd10:96::a" },
  apiPort: 6443,
  /** The bridge of a node's pods. */
  podBridge: "cni0",
} as const;

export function nodeName(index: number): string {
  return `n${index}`;
}

export function nodeAddress(index: number): DualAddress {
  return { v4: `10.89.0.${10 + index}`, v6: `fd10:89::${10 + index}` };
}

export function podNetwork(index: number): DualAddress {
  return { v4: `10.244.${index}.0/24`, v6: `fd10:244:${index}::/64` };
}

/** Of a node's pods, in every cgroup hierarchy. */
export function cgroupName(cluster: string, index: number): string {
  return `${cgroupPrefix(cluster)}${nodeName(index)}`;
}

/** No name of a cluster is the beginning of another's with this: a node's name has no hyphen. */
export function cgroupPrefix(cluster: string): string {
  return `tulle-cluster-${cluster}-`;
}
