import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { type Log, messageOf } from "@tulle/base";
import { openStore, type Store, type Watch } from "@tulle/store";
import { ZdsServer } from "@tulle/zds";
import type { Config } from "./config.ts";
import { type HostProbes, noProbes, ProbeExemption } from "./host/probe-exemption.ts";
import { PeerAuthenticationPolicy } from "./host/plaintext-policy.ts";
import { watchRootNamespace } from "./host/root-namespace.ts";
import { StatusServer } from "./http/status-server.ts";
import { readInstallerConfig } from "./installer/config.ts";
import { type Installer, startInstaller } from "./installer/installer.ts";
import { isUpgrade } from "./installer/upgrade.ts";
import type { Tools } from "./lifecycle/entry.ts";
import { PodKeeper } from "./lifecycle/keeper.ts";
import { PodStatus } from "./lifecycle/pod-status.ts";
import { AgentMetrics } from "./metrics.ts";
import { addNewPod } from "./new-pod.ts";
import { NamespaceFolder } from "./namespaces/namespace-folder.ts";
import { NAMESPACES, PEER_AUTHENTICATIONS, PODS, type Pod } from "./objects.ts";
import { PluginServer } from "./sockets/plugin-server.ts";
import { makePrivateFolder } from "./sockets/private-folder.ts";
import { ztunnelAdmission } from "./sockets/ztunnel-admission.ts";

export interface NodeAgent {
  /** Ends it: as the configuration says, the pods stay captured for the next agent or leave the mesh. Once. */
  terminate(): Promise<void>;
  /** Ports that were bound. */
  readonly ports: { readonly readiness: number; readonly metrics: number };
}

export interface NodeAgentOptions {
  readonly config: Config;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
  /** Default: the one that the environment names. */
  readonly store?: Store;
  /** Default: this machine's. */
  readonly bootId?: string;
}

/** As the host's first process sees it, where that can be looked at: a container may be shown another one. */
const BOOT_ID_FILES = ["/proc/1/root/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/random/boot_id"];
/** Of the time that the pod has to end: for peers to be told, when all pods leave at once. */
const ANNOUNCE_ALL_MS = 5000;

/**
 * The one place where the parts of the agent meet. The status pages come first, then the API's state, then ztunnel's
 * socket with the pods whose namespaces are found, then the plugin's socket, and last the plugin itself, so that it never
 * appears before somebody answers it.
 */
export async function startNodeAgent(options: NodeAgentOptions): Promise<NodeAgent> {
  const { config, env, log } = options;
  const bootId = options.bootId ?? readBootId();
  await using cleanup = new AsyncDisposableStack();
  const stopping = new AbortController();
  const waiting = new Set(["the API", "the pods of this node", "ztunnel's socket", "the plugin's socket"]);
  const metrics = new AgentMetrics();
  let installer: Installer | undefined;
  const { readiness, metricsPage } = await startPages(cleanup, {
    config,
    log,
    metrics,
    waiting,
    installer: () => installer,
  });

  const store = cleanup.use(
    options.store ??
      (await openStore({ component: "tulle-node-agent", instance: config.nodeName, env, log: log.scope("store") })),
  );
  const namespaces = new NamespaceFolder({
    folder: config.netnsDirectory,
    aliases: config.netnsAliases,
    hostNamespace: config.hostNamespace,
  });
  const probes: HostProbes =
    config.probeIps.length === 0
      ? noProbes
      : await ProbeExemption.start({
          hostNamespace: config.hostNamespace,
          probeIps: config.probeIps,
          log: log.scope("probes"),
        });

  cleanup.defer(() => probes.close());

  const policy = new PeerAuthenticationPolicy({
    rootNamespace: config.systemNamespace,
    onChange: () => keeper.policyChanged(),
  });
  let zds: ZdsServer | undefined;
  const tools: Tools = {
    settings: {
      nodeName: config.nodeName,
      bootId,
      enrolment: {
        selectors: config.enablement,
        excludeNamespaces: config.excludeNamespaces,
        systemNamespace: config.systemNamespace,
      },
      rules: { dnsCapture: config.dnsCapture, ipv6: config.ipv6, probeIps: config.probeIps },
      leaveTimeoutMs: config.leaveTimeoutMs,
    },
    zds: {
      add: (pod) => (zds === undefined ? Promise.reject(new Error("the agent is starting")) : zds.add(pod)),
      del: (uid) => zds?.del(uid) ?? Promise.resolve(),
      get connected() {
        return zds?.connected ?? 0;
      },
    },
    namespaces,
    status: new PodStatus({ store, bootId, now: Date.now }),
    probes,
    plaintext: policy,
    metrics,
    log: log.scope("pods"),
    now: () => performance.now(),
  };
  const keeper = new PodKeeper({ tools, namespaceOf: (name) => namespaceWatch.get({ name }) });
  metrics.gauge("tulle_captured_pods", "Pods of this node that are captured.", () => keeper.count("captured"));
  metrics.gauge("ztunnel_connected", "ztunnels that have taken their snapshot.", () => zds?.connected ?? 0);

  let started = false;
  const podWatch: Watch<Pod> = store.watch(
    PODS,
    { put: (pod) => started && keeper.podChanged(pod), gone: (pod) => started && keeper.podGone(pod) },
    { fields: { "spec.nodeName": config.nodeName } },
  );
  const namespaceWatch = store.watch(NAMESPACES, {
    put: ({ metadata }) => keeper.namespaceChanged(metadata.name),
    gone: () => {},
  });
  const policyWatch = store.watch(PEER_AUTHENTICATIONS, policy);
  const rootWatch = watchRootNamespace({
    store,
    systemNamespace: config.systemNamespace,
    onChange: (root) => policy.setRootNamespace(root, policyWatch.values()),
    log,
  });
  const watches = [podWatch, namespaceWatch, policyWatch, rootWatch];
  for (const watch of watches) cleanup.use(watch);
  cleanup.defer(() => stopping.abort());
  await Promise.all(watches.map((watch) => watch.whenSynced(stopping.signal)));
  waiting.delete("the API");

  keeper.start(podWatch.values());
  started = true;
  cleanup.defer(() => keeper.close());
  waiting.delete("the pods of this node");

  makePrivateFolder(dirname(config.zdsSocket));
  const admit = ztunnelAdmission({
    store,
    known: () => podWatch.values(),
    nodeName: config.nodeName,
    systemNamespace: config.systemNamespace,
    check: config.peerCheck,
  });
  zds = new ZdsServer({
    path: config.zdsSocket,
    log: log.scope("zds"),
    snapshot: () => keeper.snapshot(),
    admit: async (peer) => {
      const refusal = await admit(peer);
      if (refusal !== undefined) metrics.refused.add({ socket: "ztunnel" });
      return refusal;
    },
    onAnnounced: (uid, refusal) => keeper.announced(uid, refusal),
    onConnected: () => keeper.ztunnelConnected(),
  });
  cleanup.defer(() => zds?.close());
  waiting.delete("ztunnel's socket");

  cleanup.use(
    await PluginServer.start({
      folder: config.runDirectory,
      add: (pod) => addNewPod(pod, { store, keeper, namespaces, known: podWatch, nodeName: config.nodeName }),
      onAnswer: (status) => metrics.pluginRequests.add({ response_code: String(status) }),
      onRefused: () => metrics.refused.add({ socket: "plugin" }),
      log: log.scope("plugin"),
    }),
  );
  waiting.delete("the plugin's socket");
  if (config.installPlugin) installer = startInstaller({ config: readInstallerConfig(env), log: log.scope("install") });
  log.info("the node agent runs", { node: config.nodeName, store: store.name });

  const running = cleanup.move();
  return {
    ports: { readiness, metrics: metricsPage },
    terminate: async () => {
      const keep = await staysCaptured(config, store, log);
      log.info(keep ? "ending; pods stay as they are" : "ending; every pod leaves the mesh");
      await installer?.stop({ keep });
      if (!keep) {
        const now = performance.now();
        const announceUntil = now + Math.min(ANNOUNCE_ALL_MS, config.leaveTimeoutMs);
        await keeper.leaveAll({ announceUntil, drainUntil: announceUntil + config.drainDeadlineMs });
        await probes
          .uninstall()
          .catch((error: unknown) => log.warn("rules of the host stay", { error: messageOf(error) }));
      }
      await running.disposeAsync();
    },
  };
}

async function startPages(
  cleanup: AsyncDisposableStack,
  parts: {
    readonly config: Config;
    readonly log: Log;
    readonly metrics: AgentMetrics;
    readonly waiting: ReadonlySet<string>;
    readonly installer: () => Installer | undefined;
  },
): Promise<{ readonly readiness: number; readonly metricsPage: number }> {
  const { config, log, metrics, waiting, installer } = parts;
  metrics.gauge("istio_cni_install_ready", "Whether the CNI plugin is in place.", () =>
    installer()?.ready === true ? 1 : 0,
  );
  const missing = () => {
    const problem = config.installPlugin
      ? (installer()?.problem ?? (installer() === undefined ? "the CNI plugin" : undefined))
      : undefined;
    return [...waiting, ...(problem === undefined ? [] : [problem])];
  };
  const readiness = cleanup.use(
    await StatusServer.start({
      port: config.readinessPort,
      log,
      pages: {
        "/healthz": () => ({ status: 200, text: "alive\n" }),
        "/readyz": () => {
          const open = missing();
          return open.length === 0
            ? { status: 200, text: "ready\n" }
            : { status: 503, text: `not ready: ${open.join("; ")}\n` };
        },
      },
    }),
  );
  const installs = () =>
    Object.entries(installer()?.counts ?? {})
      .map(([result, count]) => `istio_cni_installs_total{result="${result}"} ${count}\n`)
      .join("");
  const page = () => ({
    status: 200,
    text: `${metrics.text()}# HELP istio_cni_installs_total Passes of the installer, by result.\n# TYPE istio_cni_installs_total counter\n${installs()}`,
  });
  const metricsServer = cleanup.use(
    await StatusServer.start({ port: config.metricsPort, log, pages: { "/metrics": page } }),
  );
  return { readiness: readiness.port, metricsPage: metricsServer.port };
}

function readBootId(): string {
  const [host = "", own = ""] = BOOT_ID_FILES;
  try {
    return readFileSync(host, "utf8").trim();
  } catch {
    // No hostPID, or not allowed to look: on most machines it is the same file.
    return readFileSync(own, "utf8").trim();
  }
}

function staysCaptured(config: Config, store: Store, log: Log): Promise<boolean> {
  if (config.onTermination !== "ask") return Promise.resolve(config.onTermination === "keep");
  return isUpgrade({ store, namespace: config.systemNamespace, node: config.nodeName, log });
}
