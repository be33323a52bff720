import { fileURLToPath } from "node:url";
import { messageOf } from "@tulle/base";
import { reserveRange } from "./address-range.ts";
import type { LocalConfig } from "./config.ts";
import { INGRESS_POD_KEY, Ingress, ingressPod } from "./ingress/ingress.ts";
import { checkMachine, firewallHint } from "./machine.ts";
import { Mesh } from "./mesh/mesh.ts";
import { Cluster } from "./objects/cluster.ts";
import { ObjectStore } from "./objects/object-store.ts";
import { ResourceDirectory } from "./resources/directory.ts";
import { ofKind } from "./resources/resource-set.ts";
import { nodeForPods } from "./runtime/container-root.ts";
import { nameTable } from "./runtime/dns-names.ts";
import { DnsServer } from "./runtime/dns-server.ts";
import { createBridge, type Lan } from "./runtime/network.ts";
import type { RunnerEnvironment } from "./runtime/pod-environment.ts";
import { PodRunner } from "./runtime/pod-runner.ts";
import { PodServiceAddresses } from "./runtime/service-addresses.ts";
import { claim, makeFolders, type MeshNames, meshNames, release, removeAll } from "./state-folder.ts";
import { readDirectory, watchDirectory } from "./ui/directory.ts";
import { type Progress, progressLog } from "./ui/progress.ts";
import { summary } from "./ui/summary.ts";
import { logTail, podsReady, servicesAnswer } from "./ui/waiting.ts";
import { asUserError, UserError } from "./user-error.ts";

/** The one place where the parts of the local mesh meet: directory → objects → mesh → pods. */

const CLUSTER_DOMAIN = "cluster.local";
const TRUST_DOMAIN = "cluster.local";

/** Everything that a running mesh holds, in the order in which it was made; taken down in the opposite order. */
type Undo = () => void | Promise<void>;

/** User ids of pods: above what Linux hands to people, system services and rootless containers. */
const FIRST_POD_UID = 1_900_000_000;

/** Runs until the signal aborts, and takes everything down. Throws UserError for what a user can mend. */
export async function runLocalMesh(config: LocalConfig, progress: Progress, signal: AbortSignal): Promise<void> {
  const undo: Undo[] = [];
  try {
    await start(config, progress, signal, undo);
  } finally {
    if (undo.length > 0) {
      // After the ^C that a terminal shows.
      progress.note("");
      const step = progress.step("taking everything down");
      for (const action of undo.toReversed()) {
        // One part that cannot be taken down must not keep the others from it.
        await Promise.resolve()
          .then(action)
          .catch((error: unknown) => progress.fail(`while taking down: ${messageOf(error)}`));
      }
      step.done();
    }
  }
}

async function start(config: LocalConfig, progress: Progress, signal: AbortSignal, undo: Undo[]): Promise<void> {
  checkMachine();
  const log = progressLog(progress);
  const directory = new ResourceDirectory(config.directory);
  const { set } = readDirectory(directory, progress);

  const names = meshNames(config.name);
  await takeOwnership(names, undo);
  const { plan, release: releaseRange } = await reserveRange();
  undo.push(releaseRange);
  const lan: Lan = { bridge: names.bridge, gateway: plan.gateway, v4Bits: plan.v4Bits, v6Bits: plan.v6Bits };
  const folders = makeFolders(names);
  const network = progress.step("network");
  await createBridge(lan);
  network.done(
    `bridge ${names.bridge}, ${plan.gateway.v4}${plan.gateway.v6 ? ` and ${plan.gateway.v6}` : ", no IPv6"}`,
  );

  const store = new ObjectStore();
  const dns = await DnsServer.listen(plan.gateway.v4, CLUSTER_DOMAIN, log).catch(asUserError);
  undo.push(() => dns.close());
  const services = new PodServiceAddresses(log);
  const ingress = new Ingress({
    clusterDomain: CLUSTER_DOMAIN,
    portOffset: config.portOffset,
    log: log.scope("ingress"),
  });
  await ingress.checkPorts(ofKind(set, "Service")).catch(asUserError);

  const nodes = progress.step("control plane and nodes");
  const mesh = await Mesh.start({
    plan,
    lan,
    store,
    clusterDomain: CLUSTER_DOMAIN,
    trustDomain: TRUST_DOMAIN,
    folder: folders.mesh,
    logsFolder: folders.logs,
    veth: (node) => names.veth("node", node),
    log,
  });
  undo.push(() => mesh.close());
  await mesh
    .ready(config.readyTimeoutMs, (text) => nodes.update(text), signal)
    .catch((error: Error) => {
      throw new UserError(`${error.message}${logTail(folders.logs, "ztunnel")}`);
    });
  if (signal.aborted) return;
  nodes.done(`${plan.nodes.length} ready, xDS and CA on ${mesh.address}`);

  const environment: RunnerEnvironment = {
    lan,
    clusterDomain: CLUSTER_DOMAIN,
    node: nodeForPods(process.execPath),
    appFolder: config.directory,
    mountFolder: folders.mount,
    podsFolder: folders.pods,
    logsFolder: folders.logs,
    mesh: mesh.pods,
    services,
    log,
    attach: new Map([[INGRESS_POD_KEY, ingress.attach]]),
  };
  const runners = new Map<string, PodRunner>();
  const cluster = new Cluster({
    plan,
    store,
    systemPods: [ingressPod(fileURLToPath(new URL("ingress", import.meta.url)))],
    runId: `${config.name} ${process.pid} ${Date.now()}`,
    log,
    start: ({ serial, ...pod }) => {
      const runner = new PodRunner(environment, {
        ...pod,
        veth: names.veth("pod", serial),
        uid: FIRST_POD_UID + serial,
      });
      runners.set(pod.pod.metadata.uid, runner);
      void runner.ended.then(() => runners.delete(pod.pod.metadata.uid));
      return runner;
    },
  });
  undo.push(() => cluster.close());
  store.subscribe((objects) => {
    dns.update(nameTable(objects, CLUSTER_DOMAIN));
    services.update(objects);
    ingress.update(objects);
  });
  cluster.apply(set);
  await podsReady({
    store,
    timeoutMs: config.readyTimeoutMs,
    logsFolder: folders.logs,
    hint: firewallHint(names.bridge),
    progress,
    signal,
  });
  await servicesAnswer({ published: ingress.published, hint: firewallHint(names.bridge), progress, signal });
  if (signal.aborted) return;
  watchDirectory({ directory, set, cluster, progress, signal });
  const text = summary({
    objects: store.current,
    trustDomain: TRUST_DOMAIN,
    published: ingress.published,
    directory: config.directory,
    logsFolder: folders.logs,
    bridge: names.bridge,
    namespaceOf: (pod) => runners.get(pod.metadata.uid)?.namespaceName ?? "",
    nodes: mesh.nodes.map(({ name, namespace, pid, address }) => ({ name, namespace: namespace.name, pid, address })),
  });
  progress.note(`\n${text}`);
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

async function takeOwnership(names: MeshNames, undo: Undo[]): Promise<void> {
  const { owner } = await claim(names);
  if (owner !== undefined) {
    throw new UserError(
      `a local mesh of this name runs already (process ${owner}): end it with Ctrl-C or kill ${owner}, or start this one with --name`,
    );
  }
  undo.push(() => release(names));
  undo.push(() => removeAll(names));
}
