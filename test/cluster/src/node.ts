import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { until } from "@tulle/lab";
import type { ClusterSpace } from "./cluster-space.ts";
import { ip } from "./control-plane.ts";
import { nodeFiles } from "./node-config.ts";
import { cgroupName, cgroupPrefix, type ClusterSettings, nodeAddress, nodeName, PLAN, podNetwork } from "./settings.ts";

/** PID 1 of a node. */
const NODE_INIT = join(import.meta.dirname, "..", "node", "node-init");
const CGROUPS = "/sys/fs/cgroup";
/** What kubelet asks of the cgroup that it is given. */
const KUBELET_CONTROLLERS = new Set(["cpu", "cpuset", "hugetlb", "io", "memory", "pids"]);
/** Processes that were killed a moment ago still hold their cgroup. */
const CGROUP_LIMIT_MS = 10_000;
/** From nothing to a container runtime with its images, on a busy machine. */
const NODE_START_LIMIT_MS = 90_000;

/** Writes the configuration of a node, once. */
export function configureNode(settings: ClusterSettings, index: number): void {
  const folder = configFolder(settings, index);
  mkdirSync(folder, { recursive: true });
  const files = nodeFiles(settings.name, index, join(settings.folder, "pki"), join(folder, "resolv.conf"));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
}

/**
 * Starts a node, as a machine is switched on: its disk is what it was, its network, its memory and its boot id are new.
 * Resolves when its container runtime runs; kubelet follows as soon as the cluster's API server was ready once.
 */
export async function startNode(space: ClusterSpace, settings: ClusterSettings, index: number): Promise<void> {
  const name = nodeName(index);
  if (space.running(name)) throw new Error(`node ${name} runs already`);
  await makeNetwork(space, settings, index);
  makeCgroups(cgroupName(settings.name, index));
  const ready = join(configFolder(settings, index), "runtime-ready");
  rmSync(ready, { force: true });
  const namespaces = ["--mount", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private"];
  const address = nodeAddress(index);
  await space.start(`${name}-unshare`, [
    "nsenter",
    `--net=/run/netns/${name}`,
    "unshare",
    ...namespaces,
    NODE_INIT,
    settings.folder,
    name,
    `${address.v4},${address.v6}`,
  ]);
  await until(() => existsSync(ready) || (!space.running(`${name}-unshare`) && "ended"), {
    what: `node ${name} to start`,
    timeoutMs: NODE_START_LIMIT_MS,
  }).then((state) => {
    if (state === "ended") throw new Error(`node ${name} ended: see ${settings.folder}/log/${name}-unshare.log`);
  });
}

/** Stops a node as a power failure does. Idempotent. */
export async function stopNode(space: ClusterSpace, settings: ClusterSettings, index: number): Promise<void> {
  const name = nodeName(index);
  // Off the wire first: what ends now would say goodbye to its peers, which a machine without power does not.
  if (space.running(name)) await ip(space.networkPath(), [`link delete ${name}`]);
  // Its end is the end of all that runs in the node.
  await space.stop(name);
  await until(() => !space.running(`${name}-unshare`), { what: `node ${name} to end` });
  await space.run(["bash", "-c", '[ ! -e "/run/netns/$1" ] || ip netns delete "$1"', "delete", name]);
  await removeCgroups(cgroupName(settings.name, index));
}

/** Removes the cgroups of a cluster's nodes, whichever there are. */
export async function removeAllCgroups(cluster: string): Promise<void> {
  const names = new Set(
    cgroupRoots().flatMap((root) => readdirSync(root).filter((name) => isNodeCgroup(name, cgroupPrefix(cluster)))),
  );
  for (const name of names) await removeCgroups(name);
}

function isNodeCgroup(name: string, prefix: string): boolean {
  return name.startsWith(prefix) && /^n[1-9]$/.test(name.slice(prefix.length));
}

function configFolder(settings: ClusterSettings, index: number): string {
  return join(settings.folder, "nodes", nodeName(index));
}

async function makeNetwork(space: ClusterSpace, settings: ClusterSettings, index: number): Promise<void> {
  const name = nodeName(index);
  const { bridge, controlPlane, nodePrefixes } = PLAN;
  const own = nodeAddress(index);
  await space.run(["ip", "netns", "add", name]);
  await space.run(["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name]);
  const others = Array.from({ length: settings.nodes }, (_, other) => other + 1).filter((other) => other !== index);
  await ip(space.networkPath(name), [
    "link set lo up",
    "link set eth0 up",
    `addr add ${own.v4}/${nodePrefixes.v4} dev eth0`,
    `addr add ${own.v6}/${nodePrefixes.v6} dev eth0 nodad`,
    // The other end does not forward: an address of a service must only have a route before it is translated.
    `route add default via ${controlPlane.v4}`,
    `route add default via ${controlPlane.v6}`,
    ...others.flatMap((other) => routes(other)),
  ]);
  await ip(space.networkPath(), [`link set ${name} master ${bridge} up`, ...routes(index, "replace")]);
}

/** To the pods of a node, through it. */
function routes(index: number, verb = "add"): string[] {
  const [node, pods] = [nodeAddress(index), podNetwork(index)];
  return [`route ${verb} ${pods.v4} via ${node.v4}`, `route ${verb} ${pods.v6} via ${node.v6}`];
}

/** The root of each hierarchy: version 1 has one for each controller, version 2 has one. */
function cgroupRoots(): string[] {
  if (existsSync(join(CGROUPS, "cgroup.procs"))) return [CGROUPS];
  return readdirSync(CGROUPS)
    .map((name) => join(CGROUPS, name))
    .filter((folder) => existsSync(join(folder, "cgroup.procs")));
}

function makeCgroups(name: string): void {
  for (const root of cgroupRoots()) {
    if (root === CGROUPS) enableControllers(root);
    const folder = join(root, name);
    mkdirSync(folder, { recursive: true });
    // Version 1 gives a new cpuset neither CPUs nor memory.
    for (const file of ["cpuset.cpus", "cpuset.mems"]) {
      const from = join(root, file);
      if (root !== CGROUPS && existsSync(from)) writeFileSync(join(folder, file), readFileSync(from));
    }
  }
}

/** Version 2 gives a cgroup only the controllers that its parent hands down. */
function enableControllers(root: string): void {
  const words = (file: string) => readFileSync(join(root, file), "utf8").trim().split(" ");
  const handedDown = new Set(words("cgroup.subtree_control"));
  const missing = words("cgroup.controllers").filter((name) => KUBELET_CONTROLLERS.has(name) && !handedDown.has(name));
  if (missing.length === 0) return;
  try {
    writeFileSync(join(root, "cgroup.subtree_control"), missing.map((name) => `+${name}`).join(" "));
  } catch (error) {
    throw new Error(
      `${root} does not hand down ${missing.join(", ")}: in a container, move its processes into a cgroup below the root first`,
      { cause: error },
    );
  }
}

async function removeCgroups(name: string): Promise<void> {
  for (const root of cgroupRoots()) {
    await until(
      () => {
        removeTree(join(root, name));
        return true;
      },
      { what: `the cgroup ${join(root, name)} to be empty`, timeoutMs: CGROUP_LIMIT_MS },
    );
  }
}

/** Files of a cgroup cannot be removed, its folders can, from the leaves. */
function removeTree(folder: string): void {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeTree(join(folder, entry.name));
  }
  rmdirSync(folder);
}
