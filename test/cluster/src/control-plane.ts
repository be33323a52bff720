import { join } from "node:path";
import { run, until } from "@tulle/lab";
import type { ApiClient } from "./api-client.ts";
import { artifact } from "./artifacts.ts";
import type { ClusterSpace } from "./cluster-space.ts";
import { PLAN } from "./settings.ts";

/** How long the API server may take to start: three seconds on a quiet machine. */
export const API_START_LIMIT_MS = 90_000;
const ETCD = "http://127.0.0.1:2379";
/** In the cluster's own /run, which is memory: etcd waits for the disk at every write. */
const ETCD_FOLDER = "/run/etcd";
/**
 * After this time without a sign of life a node is NotReady, so that a test of a node's death need not wait for the 50 s
 * that are the default. Kubelets renew their lease every 3 s (see node-config.ts).
 */
const NODE_GRACE = "20s";

/** Lets the nodes' network begin: the bridge with the control plane's address. */
export async function makeBridge(space: ClusterSpace): Promise<void> {
  const { bridge, controlPlane, nodePrefixes } = PLAN;
  await ip(space.networkPath(), [
    // An address of its own, or it takes its ports' lowest, which changes with the nodes that come and go.
    `link add ${bridge} address 02:74:00:00:00:01 type bridge`,
    `link set ${bridge} up`,
    `addr add ${controlPlane.v4}/${nodePrefixes.v4} dev ${bridge}`,
    `addr add ${controlPlane.v6}/${nodePrefixes.v6} dev ${bridge} nodad`,
  ]);
}

/** `ip -batch` in a network namespace. */
export async function ip(networkPath: string, commands: readonly string[]): Promise<void> {
  await run("ip", ["-batch", "-"], { namespace: networkPath, input: `${commands.join("\n")}\n` });
}

/** Etcd and the API server; resolves when that is ready. */
export async function startApi(space: ClusterSpace, api: ApiClient): Promise<void> {
  const urls = [
    `--listen-client-urls=${ETCD}`,
    `--advertise-client-urls=${ETCD}`,
    "--listen-peer-urls=http://127.0.0.1:2380",
  ];
  await space.start("etcd", ["etcd", `--data-dir=${ETCD_FOLDER}`, ...urls]);
  await startApiServer(space, api);
}

/** The API server alone; resolves when it is ready. */
export async function startApiServer(space: ClusterSpace, api: ApiClient): Promise<void> {
  if (space.running("kube-apiserver")) throw new Error("the API server runs already");
  const pki = join(space.folder, "pki");
  const { controlPlane, services, apiPort } = PLAN;
  await space.start("kube-apiserver", [
    "kube-apiserver",
    // Both families, on nothing but the bridge and the loopback device: there is no other.
    "--bind-address=::",
    `--secure-port=${apiPort}`,
    `--advertise-address=${controlPlane.v4}`,
    `--etcd-servers=${ETCD}`,
    `--client-ca-file=${pki}/ca.crt`,
    `--tls-cert-file=${pki}/apiserver.crt`,
    `--tls-private-key-file=${pki}/apiserver.key`,
    `--kubelet-client-certificate=${pki}/admin.crt`,
    `--kubelet-client-key=${pki}/admin.key`,
    `--kubelet-certificate-authority=${pki}/ca.crt`,
    "--kubelet-preferred-address-types=InternalIP",
    "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
    `--service-account-signing-key-file=${pki}/service-accounts.key`,
    `--service-account-key-file=${pki}/service-accounts.key`,
    `--service-cluster-ip-range=${services.v4},${services.v6}`,
    "--authorization-mode=Node,RBAC",
    "--enable-admission-plugins=NodeRestriction",
    "--allow-privileged=true",
    // No kube-proxy runs beside it: webhooks are reached at their pods' addresses.
    "--enable-aggregator-routing=true",
  ]);
  await until(
    async () => {
      if (!space.running("kube-apiserver")) return "ended";
      return (await api.request("GET", "/readyz")).status === 200 && "ready";
    },
    { what: "the API server to be ready", timeoutMs: API_START_LIMIT_MS, intervalMs: 100 },
  ).then((state) => {
    if (state === "ended") throw new Error(`the API server ended: see ${space.folder}/log/kube-apiserver.log`);
  });
}

const CONTROLLERS = ["kube-controller-manager", "kube-scheduler"] as const;

export async function stopControllers(space: ClusterSpace): Promise<void> {
  for (const name of CONTROLLERS) await space.stop(name);
}

/** Controller manager and scheduler. */
export async function startControllers(space: ClusterSpace): Promise<void> {
  const pki = join(space.folder, "pki");
  const common = ["--bind-address=127.0.0.1", "--leader-elect=false"];
  const [manager, scheduler] = CONTROLLERS;
  await space.start(manager, [
    manager,
    ...common,
    `--kubeconfig=${pki}/kube-controller-manager.conf`,
    "--use-service-account-credentials",
    `--root-ca-file=${pki}/ca.crt`,
    `--service-account-private-key-file=${pki}/service-accounts.key`,
    `--cluster-signing-cert-file=${pki}/ca.crt`,
    `--cluster-signing-key-file=${pki}/ca.key`,
    `--node-monitor-grace-period=${NODE_GRACE}`,
    "--node-monitor-period=1s",
  ]);
  await space.start(scheduler, [scheduler, ...common, `--kubeconfig=${pki}/kube-scheduler.conf`]);
}

/** The way from the caller's loopback device to the API server: two relays with a Unix socket between. Returns the port. */
export async function startRelays(space: ClusterSpace, portFile: string): Promise<void> {
  const labbox = join(space.folder, "bin", "labbox");
  const socket = `unix:${join(space.folder, "api.sock")}`;
  await space.start("relay-inside", [labbox, "relay", socket, `tcp:${PLAN.controlPlane.v4}:${PLAN.apiPort}`]);
  await space.start("relay-outside", [labbox, "relay", "tcp:127.0.0.1:0", socket, portFile], { network: false });
}

/** The programs that `bin` in the cluster's folder holds: a copy of the cache's, which may be cleaned meanwhile. */
export const PROGRAMS: readonly {
  readonly file: string;
  readonly source: () => string;
  readonly links: readonly string[];
}[] = [
  {
    file: "kube-all",
    source: () => artifact("kube-all", "kube-all"),
    links: ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl", "kubelet"],
  },
  { file: "labbox", source: () => artifact("labbox", "labbox"), links: [] },
];
