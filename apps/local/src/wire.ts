import { fileURLToPath } from "node:url";
import { messageOf, SYSTEM_NAMESPACE } from "@tulle/base";
import { AUTHORIZATION_POLICY, NAMESPACE, SERVICE_ACCOUNT, type Store } from "@tulle/store";
import { reserveRange } from "./address-range.ts";
import type { UpConfig } from "./config.ts";
import { INGRESS_ACCOUNT, INGRESS_POD_KEY, Ingress, ingressPod } from "./ingress/ingress.ts";
import { checkMachine, firewallHint } from "./machine.ts";
import type { AddressPlan } from "./objects/addresses.ts";
import { DeploymentStatuses } from "./objects/deployment-status.ts";
import { NamespaceController } from "./objects/namespace-controller.ts";
import { PODS } from "./objects/pod.ts";
import { templateHashOf } from "./objects/replicas.ts";
import { Scheduler } from "./objects/scheduler.ts";
import { ServiceController } from "./objects/service-controller.ts";
import { MANAGER } from "./objects/status-writer.ts";
import { ObjectView } from "./objects/view.ts";
import { INGRESS_NAMESPACE } from "./resources/together-check.ts";
import { claim, makeFolders, type MeshFolders, type MeshNames, meshNames, release, removeAll } from "./run-folder.ts";
import { nodeForPods } from "./runtime/container-root.ts";
import { nameTable } from "./runtime/dns-names.ts";
import { DnsServer } from "./runtime/dns-server.ts";
import { createBridge, type Lan } from "./runtime/network.ts";
import { PodRunner } from "./runtime/pod-runner.ts";
import { PodServiceAddresses } from "./runtime/service-addresses.ts";
import { knownRange, makeStateFolder, rememberRange, stateFolder } from "./state-folder.ts";
import { Mesh, NotReadyError } from "./system/mesh.ts";
import { markStopped } from "./system/stopped.ts";
import { ConditionReport } from "./ui/conditions.ts";
import { checkDirectory, DirectoryReport, refuseProblems } from "./ui/directory.ts";
import { type Progress, progressLog, type Step } from "./ui/progress.ts";
import { summary } from "./ui/summary.ts";
import { logTails, podsReady, servicesAnswer } from "./ui/waiting.ts";
import { type Look, UserDirectory } from "./user-directory.ts";
import { asUserError, UserError } from "./user-error.ts";

/** The one place where the parts of the local mesh meet: directory → objects → mesh and pods. */

const CLUSTER_DOMAIN = "cluster.local";
/** For the mesh's own processes, whatever the user grants the pods: five programs that start at once on a slow machine. */
const MESH_TIMEOUT_MS = 60_000;
/** User ids of pods: above what Linux hands to people, system services and rootless containers. */
const FIRST_POD_UID = 1_900_000_000;

/** Everything that a running mesh holds, in the order in which it was made; taken down in the opposite order. */
type Undo = () => void | Promise<void>;

/** Runs until the signal aborts, and takes everything down. Throws UserError for what a user can mend. */
export async function runLocalMesh(config: UpConfig, progress: Progress, signal: AbortSignal): Promise<void> {
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

async function start(config: UpConfig, progress: Progress, signal: AbortSignal, undo: Undo[]): Promise<void> {
  checkMachine();
  const log = progressLog(progress);
  checkDirectory(config.directory);
  const names = meshNames(config.name);
  await takeOwnership(names, undo);
  const state = stateFolder(config.name);
  makeStateFolder(state);

  const reading = progress.step(`reading ${config.directory}`);
  const report = new DirectoryReport(progress);
  let running = false;
  let declared = 0;
  let scheduler: Scheduler | undefined;
  const onLook = (look: Look) => {
    declared = look.declared;
    if (running) report.tell(look, look.problems, look.imagesChanged);
    if (look.imagesChanged) scheduler?.reconcile();
  };
  const user = await UserDirectory.open({ directory: config.directory, state, log: log.scope("store"), onLook });
  undo.push(() => user[Symbol.asyncDispose]());
  const { store } = user;
  refuseProblems(user.problems);
  const view = new ObjectView(store, log);
  undo.push(() => view[Symbol.dispose]());
  await view.whenSynced();
  if (declared === 0) {
    throw new UserError(
      `${config.directory} holds no Kubernetes YAML (*.yaml, *.yml)`,
      "name a directory that does: tulle up DIR, as in tulle up samples/bookinfo",
    );
  }
  const { deployments, services: wantedServices } = view.current;
  const policies = (await store.list(AUTHORIZATION_POLICY)).length;
  reading.done(
    `${deployments.length} deployments, ${wantedServices.length} services, ${policies} authorization policies`,
  );

  const { plan, lan, folders } = await makeNetwork(names, state, progress, undo);
  const ingress = new Ingress({
    clusterDomain: CLUSTER_DOMAIN,
    portOffset: config.portOffset,
    log: log.scope("ingress"),
  });
  await ingress
    .checkPorts(wantedServices)
    .catch(asUserError("end the other program, or move all ports of this mesh: --port-offset N"));
  const dns = await DnsServer.listen(plan.gateway.v4, CLUSTER_DOMAIN, log).catch(
    asUserError("see what holds the port: ss -lunp"),
  );
  undo.push(() => dns.close());
  const services = new PodServiceAddresses(log);

  const nodes = progress.step("control plane and nodes");
  await markStopped(store);
  await makeIngressNamespace(store);
  const mesh = await Mesh.start({
    ...{ plan, lan, store, state, clusterDomain: CLUSTER_DOMAIN, log },
    folder: folders.mesh,
    logsFolder: folders.logs,
    veth: (serial) => names.veth("node", serial),
  });
  undo.push(() => markStopped(store));
  undo.push(() => mesh.close());

  const runners = new Map<string, PodRunner>();
  const environment = {
    ...{ lan, services, log, clusterDomain: CLUSTER_DOMAIN, node: nodeForPods(process.execPath) },
    appFolder: config.directory,
    mountFolder: folders.mount,
    podsFolder: folders.pods,
    logsFolder: folders.logs,
    admit: mesh.admit.bind(mesh),
    attach: new Map([[INGRESS_POD_KEY, ingress.attach]]),
  };
  scheduler = new Scheduler({
    ...{ plan, store, log, objects: () => view.current, images: () => user.images },
    systemPods: [ingressPod(fileURLToPath(new URL("ingress", import.meta.url)))],
    start: ({ serial, ...pod }) => {
      const runner = new PodRunner(environment, {
        ...pod,
        veth: names.veth("pod", serial),
        uid: FIRST_POD_UID + serial,
      });
      runners.set(pod.pod.metadata.uid ?? "", runner);
      return runner;
    },
  });
  const pods = scheduler;
  const namespaces = new NamespaceController({ store, log });
  const addresses = new ServiceController({ plan, store, log });
  const statuses = new DeploymentStatuses({ store, log, hashOf: (one) => templateHashOf(one, user.images) });
  const told = new ConditionReport(store, log);
  undo.push(async () => {
    told[Symbol.dispose]();
    await Promise.all([namespaces.close(), addresses.close(), statuses.close()]);
  });
  undo.push(() => pods.close());
  // Nobody looks after pods that are being taken down.
  undo.push(() => mesh.stopAgents());
  await pods.adopt((await store.list(PODS)).filter(({ metadata }) => metadata.namespace !== SYSTEM_NAMESPACE));
  view.subscribe((objects) => {
    namespaces.update(objects);
    addresses.update(objects);
    statuses.update(objects);
    dns.update(nameTable(objects, CLUSTER_DOMAIN));
    services.update(objects);
    ingress.update(objects);
    pods.reconcile();
    const living = new Set(objects.pods.map(({ metadata }) => metadata.uid));
    for (const uid of runners.keys()) if (!living.has(uid)) runners.delete(uid);
  });
  await meshReady(mesh, config, nodes, signal);
  if (signal.aborted) return;
  nodes.done(`${plan.nodes.length} nodes ready, xDS and CA on ${mesh.address}`);

  const hint = firewallHint(names.bridge);
  const objects = () => view.current;
  await podsReady({
    ...{ objects, hint, progress, signal },
    timeoutMs: config.readyTimeoutMs,
    logsFolder: folders.logs,
  });
  await servicesAnswer({ published: ingress.published, hint, progress, signal });
  if (signal.aborted) return;
  running = true;
  const text = summary({
    objects: view.current,
    name: config.name,
    published: ingress.published,
    directory: config.directory,
    logsFolder: folders.logs,
    bridge: names.bridge,
    namespaceOf: (pod) => runners.get(pod.metadata.uid ?? "")?.namespaceName ?? "",
    processes: mesh.processes,
  });
  progress.note(`\n${text}`);
  // What went wrong meanwhile.
  report.tell({ changes: 0 }, user.problems, false);
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

async function takeOwnership(names: MeshNames, undo: Undo[]): Promise<void> {
  const { owner } = await claim(names);
  if (owner !== undefined) {
    throw new UserError(
      `a local mesh of this name runs already (process ${owner}): end it with Ctrl-C or tulle down, or start this one with --name`,
    );
  }
  undo.push(() => release(names));
  undo.push(() => removeAll(names));
}

async function makeNetwork(
  names: MeshNames,
  state: string,
  progress: Progress,
  undo: Undo[],
): Promise<{ readonly plan: AddressPlan; readonly lan: Lan; readonly folders: MeshFolders }> {
  const network = progress.step("network");
  const { second, plan, release: releaseRange } = await reserveRange(knownRange(state));
  undo.push(releaseRange);
  rememberRange(state, second);
  const { gateway, v4Bits, v6Bits } = plan;
  const lan: Lan = { bridge: names.bridge, gateway, v4Bits, v6Bits };
  const folders = makeFolders(names);
  await createBridge(lan);
  network.done(`bridge ${names.bridge}, ${gateway.v4}${gateway.v6 ? ` and ${gateway.v6}` : ", no IPv6"}`);
  return { plan, lan, folders };
}

async function makeIngressNamespace(store: Store): Promise<void> {
  const metadata = (name: string) => ({ name, namespace: INGRESS_NAMESPACE });
  const objects = { apiVersion: "v1", kind: "Namespace", metadata: { name: INGRESS_NAMESPACE } };
  await store.apply(NAMESPACE, objects, { manager: MANAGER });
  const account = { apiVersion: "v1", kind: "ServiceAccount", metadata: metadata(INGRESS_ACCOUNT) };
  await store.apply(SERVICE_ACCOUNT, account, { manager: MANAGER });
}

async function meshReady(mesh: Mesh, config: UpConfig, step: Step, signal: AbortSignal): Promise<void> {
  try {
    const timeoutMs = Math.max(MESH_TIMEOUT_MS, config.readyTimeoutMs);
    await mesh.ready(timeoutMs, (text) => step.update(text), signal);
  } catch (error) {
    if (!(error instanceof NotReadyError)) throw error;
    throw new UserError(
      `${error.message}${logTails(error.logs)}`,
      "see what the lines above name; on a slow machine give it more time: --ready-timeout SECONDS",
    );
  }
}
