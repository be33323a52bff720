import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Lab, type LabHost, type LabProcess, listenIn, until } from "@tulle/lab";
import { applyPodRules } from "@tulle/linux";
import { CertificateAuthority, type WorkloadCertificate } from "@tulle/pki";
import { ask, echo } from "./call.ts";
import { httpRequest } from "./http-request.ts";

/** Dedicated mode: one ztunnel per workload, in the workload's own namespace, with its certificate in files and no CA. */

const PORT = 8080;
const SECRET = "not for the wire";
const ZTUNNEL_MAIN = fileURLToPath(new URL("../../apps/ztunnel/src/main.ts", import.meta.url));
const READY_TIMEOUT_MS = 30_000;

interface Pod {
  readonly name: string;
  readonly host: LabHost;
  readonly directory: string;
  ztunnel: LabProcess;
}

let lab: Lab;
let folder: string;
let authority: CertificateAuthority;
let client: Pod;
let server: Pod;
const servers: AsyncDisposable[] = [];

before(async () => {
  lab = await Lab.create();
  folder = mkdtempSync(join(tmpdir(), "tulle-dedicated-"));
  authority = await CertificateAuthority.selfSigned();
  const hosts = { client: await lab.host("client"), server: await lab.host("server") };
  const workloads = Object.entries(hosts).map(([name, { v4, v6 }]) => ({
    uid: `Kubernetes//Pod/demo/${name}`,
    name,
    namespace: "demo",
    serviceAccount: name,
    workloadIps: v6 === undefined ? [v4] : [v4, v6],
    protocol: "HBONE",
    services: {},
  }));
  const onlyClient = [[[{ principals: [{ Exact: "cluster.local/ns/demo/sa/client" }] }]]];
  const policy = { name: "only-client", namespace: "demo", scope: "Namespace", action: "Allow", dryRun: false };
  writeFileSync(
    join(folder, "mesh.json"),
    JSON.stringify({ workloads, services: [], policies: [{ ...policy, rules: onlyClient }] }),
  );
  client = await startPod("client", hosts.client);
  server = await startPod("server", hosts.server);
  for (const ip of addresses(server)) servers.push(await listenIn(pathOf(server), { ip, port: PORT }, echo));
});

after(async () => {
  for (const one of servers) await one[Symbol.asyncDispose]();
  for (const pod of [client, server]) await pod.ztunnel.stop();
  await lab.close();
  rmSync(folder, { recursive: true, force: true });
});

const issue = (name: string, trustDomain = "cluster.local"): Promise<WorkloadCertificate> =>
  authority.issueIdentity({ trustDomain, namespace: "demo", serviceAccount: name });
const pathOf = (pod: Pod) => pod.host.namespace.path;
const addresses = ({ host }: Pod) => (host.v6 === undefined ? [host.v4] : [host.v4, host.v6]);
const get = (pod: Pod, port: number, path: string) => httpRequest(pathOf(pod), { ip: "127.0.0.1", port }, "GET", path);

function writeCertificate(directory: string, certificate: WorkloadCertificate): void {
  for (const [file, text] of [
    ["key.pem", certificate.exportPrivateKeyPem()],
    ["cert-chain.pem", certificate.certificateChainPem],
    ["root-cert.pem", certificate.rootsPem],
  ] as const) {
    writeFileSync(join(directory, `${file}.new`), text, { mode: 0o600 });
    renameSync(join(directory, `${file}.new`), join(directory, file));
  }
}

async function startPod(name: string, host: LabHost): Promise<Pod> {
  const directory = join(folder, name);
  mkdirSync(directory);
  writeCertificate(directory, await issue(name));
  await applyPodRules(host.namespace.path, { ipv6: host.v6 !== undefined, dnsCapture: true });
  const pod: Pod = { name, host, directory, ztunnel: await startZtunnel(name, host, directory) };
  await ready(pod);
  return pod;
}

function startZtunnel(name: string, host: LabHost, directory: string): Promise<LabProcess> {
  return host.namespace.start(process.execPath, [ZTUNNEL_MAIN, "proxy", "ztunnel"], {
    directory,
    environment: {
      NODE_NO_WARNINGS: "1",
      PROXY_MODE: "dedicated",
      PROXY_WORKLOAD_INFO: `demo/${name}/${name}`,
      TULLE_CERTIFICATES_DIR: directory,
      XDS_ADDRESS: "",
      LOCAL_XDS_PATH: join(folder, "mesh.json"),
      // The rules let pass what ztunnel marks as its own.
      PACKET_MARK: "1337",
      ZTUNNEL_WORKER_THREADS: "1",
      CONNECTION_TERMINATION_DEADLINE: "1s",
    },
  });
}

async function ready(pod: Pod): Promise<void> {
  await until(async () => (await get(pod, 15_021, "/healthz/ready")).status === 200, {
    what: `the ztunnel of ${pod.name} to be ready; it wrote:\n${pod.ztunnel.output.slice(-2000)}`,
    timeoutMs: READY_TIMEOUT_MS,
  });
}

async function shownCertificate(pod: Pod) {
  const { certificates, workloadState } = JSON.parse((await get(pod, 15_000, "/config_dump")).body);
  return { certificates, workloadState };
}

test("two workloads with their own ztunnels talk encrypted, over IPv4 and IPv6, by their certificates' names", async () => {
  for (const ip of addresses(server)) {
    await using capture = await lab.fabric.capture(lab.bridge, "tcp");
    assert.equal(await ask(pathOf(client), { ip, port: PORT }, SECRET), "ok");
    // What tcpdump has not read when it is told to end is lost.
    await capture.packet(({ payload }) => payload.length > 0, "the call on the wire");
    const frames = await capture.stop();
    assert.ok(frames.length > 0, "the capture saw it");
    assert.ok(!frames.some(({ payload }) => Buffer.from(payload).includes(SECRET)), "in the clear");
  }
  const identity = 'src.identity="spiffe://cluster.local/ns/demo/sa/client"';
  await until(() => server.ztunnel.output.includes(identity), { what: "the server's log to name the client" });
  // The dump of dedicated mode has no pods of a node.
  const { certificates, workloadState } = await shownCertificate(server);
  assert.equal(workloadState, undefined);
  assert.equal(certificates[0].identity, "spiffe://cluster.local/ns/demo/sa/server");
});

test("policy holds here, too: without an identity nobody gets in", async () => {
  const stranger = await lab.host("stranger");
  assert.equal(await ask(stranger.namespace.path, { ip: server.host.v4, port: PORT }, SECRET), "ECONNRESET");
  await until(() => server.ztunnel.output.includes("allow policies exist, but none allowed"), { what: "the log" });
});

test("new files are taken up while it runs", async () => {
  const serial = async () => (await shownCertificate(server)).certificates[0].certChain[0].serialNumber as string;
  const before = await serial();
  const next = await issue("server");
  writeCertificate(server.directory, next);
  await until(async () => (await serial()) === next.serialNumber, { what: "the new certificate" });
  assert.notEqual(next.serialNumber, before);
  assert.equal(await ask(pathOf(client), { ip: server.host.v4, port: PORT }, SECRET), "ok");
});

test("files of another identity, or none at all, mean no connection, not a plain one", async () => {
  server.ztunnel.signal("SIGTERM");
  await server.ztunnel.ended;
  writeCertificate(server.directory, await issue("somebody-else"));
  server.ztunnel = await startZtunnel("server", server.host, server.directory);
  await ready(server);
  await using capture = await lab.fabric.capture(lab.bridge, "tcp");
  assert.notEqual(await ask(pathOf(client), { ip: server.host.v4, port: PORT }, SECRET), "ok");
  await until(() => server.ztunnel.output.includes("identity error: "), { what: "the log to say why" });
  assert.ok(!(await capture.stop()).some(({ payload }) => Buffer.from(payload).includes(SECRET)), "in the clear");
  writeCertificate(server.directory, await issue("server"));
  await until(async () => (await ask(pathOf(client), { ip: server.host.v4, port: PORT }, SECRET)) === "ok", {
    what: "the right files to be taken up",
    timeoutMs: 20_000,
  });
});
