import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import {
  closeSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { get } from "node:https";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { sleep } from "@tulle/base";

/** A real API server on loopback with an etcd of its own: no nodes, no controllers. */
export interface KubeApiServer extends AsyncDisposable {
  /** `https://127.0.0.1:port` */
  readonly server: string;
  /** PEM, for `ca`. */
  readonly ca: Buffer;
  /** Bearer token of a member of system:masters. */
  readonly token: string;
  /** Bearer token of user `stranger`, who may do nothing. */
  readonly strangerToken: string;
  /** Path of a kubeconfig for the admin. */
  readonly kubeconfig: string;
  /** Ends the API server at once (etcd runs on). */
  stop(): Promise<void>;
  /** Starts it again on the same port and waits until it is ready. */
  start(): Promise<void>;
  /** Forgets the history in etcd: resourceVersions from before are gone (410) once the API server has restarted. */
  compact(): Promise<void>;
}

/** A cold start takes 3 to 5 s on two cores; a busy machine needs longer. */
const READY_MS = 90_000;

/** Starts both and waits until the API server answers. Rejects with what is missing or with the end of the log. */
export async function startKubeApiServer(): Promise<KubeApiServer> {
  const programs = { etcd: find("etcd"), apiserver: kubernetesProgram() };
  const folder = mkdtempSync(join(tmpdir(), "tulle-apiserver-"));
  const [etcdPort, peerPort, port] = await freePorts(3);
  const etcdUrl = `http://127.0.0.1:${etcdPort}`;
  const [token, strangerToken] = [randomBytes(16).toString("hex"), randomBytes(16).toString("hex")];
  writeFileSync(
    join(folder, "tokens.csv"),
    `${token},admin,admin,"system:masters"\n${strangerToken},stranger,stranger,""\n`,
    { mode: 0o600 },
  );
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  writeFileSync(join(folder, "sa.key"), privateKey.export({ type: "sec1", format: "pem" }), { mode: 0o600 });
  mkdirSync(join(folder, "certs"));

  const etcd = run(folder, "etcd", programs.etcd, [
    `--data-dir=${join(folder, "etcd")}`,
    `--listen-client-urls=${etcdUrl}`,
    `--advertise-client-urls=${etcdUrl}`,
    `--listen-peer-urls=http://127.0.0.1:${peerPort}`,
  ]);
  let apiserver: ChildProcess | undefined;
  const server = `https://127.0.0.1:${port}`;
  const caFile = join(folder, "certs", "apiserver.crt");

  const start = async () => {
    apiserver = run(folder, "kube-apiserver", programs.apiserver, [
      "--bind-address=127.0.0.1",
      `--secure-port=${port}`,
      `--cert-dir=${join(folder, "certs")}`,
      `--etcd-servers=${etcdUrl}`,
      `--token-auth-file=${join(folder, "tokens.csv")}`,
      "--authorization-mode=RBAC",
      "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
      `--service-account-signing-key-file=${join(folder, "sa.key")}`,
      `--service-account-key-file=${join(folder, "sa.key")}`,
      "--service-cluster-ip-range=10.96.0.0/16",
      // Nobody makes default service accounts here, and Pods without one would be refused.
      "--disable-admission-plugins=ServiceAccount",
      "--allow-privileged=true",
    ]);
    await ready(apiserver, server, token, caFile, () => tail(folder, "kube-apiserver"));
  };
  const stop = async () => {
    await end(apiserver);
    apiserver = undefined;
  };
  const dispose = async () => {
    await stop();
    await end(etcd);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await start();
  } catch (error) {
    await dispose();
    throw error;
  }
  const kubeconfig = join(folder, "kubeconfig");
  writeFileSync(kubeconfig, kubeconfigText(server, caFile, token), { mode: 0o600 });
  return {
    server,
    ca: readFileSync(caFile),
    token,
    strangerToken,
    kubeconfig,
    start,
    stop,
    compact: () => compact(etcdUrl),
    [Symbol.asyncDispose]: dispose,
  };
}

/**
 * The program that test/cluster/build makes: all of Kubernetes in one, told by the name under which it is called. Its folder
 * in the cache is named by what it is built from; the newest is that of the sources of now.
 */
function kubernetesProgram(): string {
  const { TULLE_CLUSTER_CACHE: own, XDG_CACHE_HOME: caches } = process.env;
  const cache = own || join(caches || join(homedir(), ".cache"), "tulle", "cluster");
  const built = globSync("kube-all/*/kube-all", { cwd: cache }).map((path) => join(cache, path));
  const newest = built.toSorted((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
  if (newest === undefined) throw new Error(`there is no kube-all in ${cache}: run test/cluster/build first`);
  return newest;
}

function find(program: string): string {
  const found = (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, program));
  const path = found.find((candidate) => existsSync(candidate));
  if (path === undefined) throw new Error(`${program} is not on PATH: scripts/bootstrap says what tests need`);
  return path;
}

function run(folder: string, name: string, program: string, args: readonly string[]): ChildProcess {
  const log = openSync(join(folder, `${name}.log`), "a");
  try {
    const child = spawn(program, args, { argv0: name, stdio: ["ignore", log, log], cwd: folder });
    child.on("error", () => {
      // The wait for readiness reports it: the child has no exit code then, but a failed start.
    });
    return child;
  } finally {
    closeSync(log);
  }
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGKILL");
  await ended;
}

async function ready(
  child: ChildProcess,
  server: string,
  token: string,
  caFile: string,
  log: () => string,
): Promise<void> {
  const deadline = performance.now() + READY_MS;
  while (performance.now() < deadline) {
    if (child.exitCode !== null || child.pid === undefined) throw new Error(`kube-apiserver ended:\n${log()}`);
    // `default` is made by the API server itself, a moment after it is ready.
    if (existsSync(caFile) && (await answers(`${server}/readyz`, token, caFile))) {
      if (await answers(`${server}/api/v1/namespaces/default`, token, caFile)) return;
    }
    await sleep(50);
  }
  throw new Error(`kube-apiserver was not ready within ${READY_MS / 1000} s:\n${log()}`);
}

function answers(url: string, token: string, caFile: string): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get(
      url,
      { ca: readFileSync(caFile), headers: { authorization: `Bearer ${token}` }, timeout: 2000, agent: false },
      (answer) => {
        answer.resume();
        answer.on("end", () => resolve(answer.statusCode === 200));
        answer.on("error", () => resolve(false));
      },
    );
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(false));
  });
}

async function compact(etcdUrl: string): Promise<void> {
  const post = async (path: string, body: unknown): Promise<{ header?: { revision?: string } }> => {
    const answer = await fetch(`${etcdUrl}${path}`, { method: "POST", body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`etcd ${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as { header?: { revision?: string } };
  };
  const { header } = await post("/v3/kv/range", { key: "AA==" });
  await post("/v3/kv/compaction", { revision: header?.revision, physical: true });
}

function kubeconfigText(server: string, caFile: string, token: string): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "test",
    clusters: [{ name: "test", cluster: { server, "certificate-authority": caFile } }],
    users: [{ name: "admin", user: { token } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }],
  });
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

function tail(folder: string, name: string): string {
  return readFileSync(join(folder, `${name}.log`), "utf8")
    .split("\n")
    .slice(-20)
    .join("\n");
}
