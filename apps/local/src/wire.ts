import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { messageOf, sleep } from "@tulle/base";
import { chooseRange } from "./address-range.ts";
import type { LocalConfig } from "./config.ts";
import { INGRESS_POD_KEY, Ingress, ingressPod, type Published } from "./ingress/ingress.ts";
import { Mesh } from "./mesh/mesh.ts";
import { Cluster } from "./objects/cluster.ts";
import { ObjectStore } from "./objects/object-store.ts";
import { isReady, type Pod } from "./objects/pod.ts";
import { ResourceDirectory } from "./resources/directory.ts";
import { ofKind } from "./resources/resource-set.ts";
import { formatProblem, type Problem } from "./resources/read-file.ts";
import { nodeForPods } from "./runtime/container-root.ts";
import { nameTable } from "./runtime/dns-names.ts";
import { DnsServer } from "./runtime/dns-server.ts";
import { createBridge, type Lan } from "./runtime/network.ts";
import { PodRunner, type RunnerEnvironment } from "./runtime/pod-runner.ts";
import { PodServiceAddresses } from "./runtime/service-addresses.ts";
import { claim, type MeshNames, meshNames, release, removeAll } from "./state-folder.ts";
import { type Progress, progressLog } from "./ui/progress.ts";
import { summary } from "./ui/summary.ts";

/** The one place where the parts of the local mesh meet: directory → objects → mesh → pods. */

export const CLUSTER_DOMAIN = "cluster.local";
export const TRUST_DOMAIN = "cluster.local";

/** An error that is the user's to mend: shown as it is, without a stack. */
export class UserError extends Error {}

/** Everything that a running mesh holds, in the order in which it was made; taken down in the opposite order. */
type Undo = () => void | Promise<void>;

const TOOLS = ["ip", "nft", "nsenter", "unshare", "setpriv", "mount", "chroot"];
const READABLE_BY_OTHERS = 0o005;
/** User ids of pods: above what Linux hands to people, system services and rootless containers. */
const FIRST_POD_UID = 1_900_000_000;
const READY_POLL_MS = 50;
/** A page that calls others may answer later than a readiness probe. */
const REQUEST_TIMEOUT_MS = 5000;
/** Endpoints reach the proxies within milliseconds of readiness; this is for a machine that is busy. */
const ANSWER_TIMEOUT_MS = 10_000;
/** Of a log, shown when something does not start. */
const TAIL_LINES = 8;

export async function runLocalMesh(config: LocalConfig, progress: Progress, signal: AbortSignal): Promise<void> {
  const undo: Undo[] = [];
  try {
    await start(config, progress, signal, undo);
  } finally {
    if (undo.length > 0) {
      const step = progress.step("taking everything down");
      for (const action of undo.toReversed()) await action();
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
  const plan = await chooseRange();
  const lan: Lan = { bridge: names.bridge, gateway: plan.gateway, v4Bits: plan.v4Bits, v6Bits: plan.v6Bits };
  const folders = makeFolders(names);
  const network = progress.step("network");
  await createBridge(lan);
  network.done(
    `bridge ${names.bridge}, ${plan.gateway.v4}${plan.gateway.v6 ? ` and ${plan.gateway.v6}` : ", no IPv6"}`,
  );

  const store = new ObjectStore();
  const dns = await DnsServer.listen(plan.gateway.v4, CLUSTER_DOMAIN, log);
  undo.push(() => dns.close());
  const services = new PodServiceAddresses(log);
  const ingress = new Ingress({
    clusterDomain: CLUSTER_DOMAIN,
    portOffset: config.portOffset,
    log: log.scope("ingress"),
  });
  await ingress.checkPorts(ofKind(set, "Service")).catch((error: Error) => {
    throw new UserError(error.message);
  });

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
  await podsReady({ store, timeoutMs: config.readyTimeoutMs, logsFolder: folders.logs, progress, signal });
  await servicesAnswer(ingress.published, progress, signal);
  if (signal.aborted) return;
  watchDirectory(directory, cluster, progress, signal);
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

function checkMachine(): void {
  if (process.getuid?.() !== 0) {
    throw new UserError("the local mesh needs root, because it makes network namespaces: run it with sudo");
  }
  const path = (process.env.PATH ?? "").split(delimiter);
  const missing = TOOLS.filter((tool) => !path.some((folder) => existsSync(join(folder, tool))));
  if (missing.length > 0) {
    throw new UserError(
      `missing: ${missing.join(", ")}; install them with: apt-get install iproute2 nftables util-linux coreutils`,
    );
  }
}

/** At the start every problem counts; later, what was good stays. */
function readDirectory(directory: ResourceDirectory, progress: Progress) {
  const step = progress.step(`reading ${directory.path}`);
  let state: ReturnType<ResourceDirectory["read"]>;
  try {
    state = directory.read();
  } catch (error) {
    throw new UserError(`cannot read the directory: ${(error as Error).message}`);
  }
  if ((statSync(directory.path).mode & READABLE_BY_OTHERS) !== READABLE_BY_OTHERS) {
    throw new UserError(
      `pods run as users of their own and cannot read ${directory.path}: chmod o+rx ${directory.path}`,
    );
  }
  if (state.problems.length > 0) throw new UserError(problemList(state.problems));
  if (state.set.resources.length === 0)
    throw new UserError(`${directory.path} holds no Kubernetes YAML (*.yaml, *.yml)`);
  const count = (kind: string) => state.set.resources.filter((resource) => resource.kind === kind).length;
  step.done(
    `${count("Deployment")} deployments, ${count("Service")} services, ${count("AuthorizationPolicy")} authorization policies`,
  );
  return state;
}

function problemList(problems: readonly Problem[]): string {
  return [
    `${problems.length === 1 ? "one problem" : `${problems.length} problems`} in the directory:`,
    ...problems.map((one) => `  ${formatProblem(one)}`),
  ].join("\n");
}

function watchDirectory(directory: ResourceDirectory, cluster: Cluster, progress: Progress, signal: AbortSignal): void {
  let shown = "";
  directory.watch(
    ({ set, problems }) => {
      cluster.apply(set);
      const text = problems.length === 0 ? "" : `${problemList(problems)}\n  What was good before stays in force.`;
      if (text !== shown) progress.note(text === "" ? "✓ the directory is fine again" : text);
      else if (text === "") progress.note("✓ the directory has changed and is in force");
      shown = text;
    },
    (message) => progress.fail(message),
    signal,
  );
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

/** The last words of whoever's log begins so: they go with the folder. */
function logTail(folder: string, prefix: string): string {
  return readdirSync(folder)
    .filter((name) => name.startsWith(prefix))
    .map((name) => {
      const lines = readFileSync(join(folder, name), "utf8").trimEnd().split("\n").slice(-TAIL_LINES);
      return `\n  ${name}:\n${lines.map((line) => `    ${line}`).join("\n")}`;
    })
    .join("");
}

function makeFolders(names: MeshNames) {
  const folder = (name: string, mode: number) => {
    const path = join(names.folder, name);
    mkdirSync(path, { recursive: true, mode });
    chmodSync(path, mode);
    return path;
  };
  return {
    mount: folder("mount", 0o755),
    pods: folder("pods", 0o755),
    logs: folder("logs", 0o700),
    mesh: folder("mesh", 0o700),
  };
}

interface PodsReadyOptions {
  readonly store: ObjectStore;
  readonly timeoutMs: number;
  readonly logsFolder: string;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

async function podsReady({ store, timeoutMs, logsFolder, progress, signal }: PodsReadyOptions): Promise<void> {
  const step = progress.step("starting pods");
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const { pods } = store.current;
    const waiting = pods.filter((pod) => !isReady(pod));
    if (signal.aborted) return;
    if (pods.length > 0 && waiting.length === 0) {
      step.done(`${pods.length} ready`);
      return;
    }
    step.update(`${pods.length - waiting.length} of ${pods.length} ready`);
    if (performance.now() > deadline) {
      throw new UserError(
        ["these pods did not become ready:", ...waiting.map((pod) => notReady(pod, logsFolder))].join("\n"),
      );
    }
    await sleep(READY_POLL_MS, signal);
  }
}

/** Asks every published service once it can be asked; one that does not answer may be meant to, so it is only told. */
async function servicesAnswer(published: readonly Published[], progress: Progress, signal: AbortSignal): Promise<void> {
  for (const { service, url } of published) {
    const step = progress.step(`asking ${service}`);
    const deadline = performance.now() + ANSWER_TIMEOUT_MS;
    for (;;) {
      if (signal.aborted) return;
      const failure = await fetch(url, { redirect: "follow", signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) }).then(
        (answer) => (answer.ok ? undefined : `it answered ${answer.status}`),
        (error: Error) => messageOf(error.cause ?? error),
      );
      if (failure === undefined) {
        step.done("it answers");
        break;
      }
      step.update(failure);
      if (performance.now() > deadline) {
        step.done(`no good answer from ${url}: ${failure}`);
        break;
      }
      await sleep(READY_POLL_MS, signal);
    }
  }
}

function notReady(pod: Pod, logsFolder: string): string {
  const reason = pod.status.conditions.find(({ type }) => type === "Ready")?.message ?? "it has not started";
  const { namespace, name } = pod.metadata;
  return `  ${namespace}/${name}: ${reason}${logTail(logsFolder, `${namespace}.${name}.`)}`;
}
