import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { listenIn, until } from "@tulle/lab";
import { ask, Call, echo } from "./call.ts";
import { type LabPod, MeshLab, POD_NAMESPACE } from "./mesh-lab.ts";

/** What an operator asks a running ztunnel: its state, its certificates, why a connection would go where it goes. */

const PORT = 8080;
const VIP = "10.200.0.1";
const HOSTNAME = "web.demo.svc.cluster.local";

let mesh: MeshLab;
let server: LabPod;
let client: LabPod;
const servers: AsyncDisposable[] = [];

before(async () => {
  mesh = await MeshLab.create();
  mesh.services = [
    { name: "web", namespace: POD_NAMESPACE, hostname: HOSTNAME, vips: [`/${VIP}`], ports: { 80: PORT } },
  ];
  mesh.policies = [
    {
      name: "deny-other",
      namespace: POD_NAMESPACE,
      scope: "Namespace",
      action: "Deny",
      dryRun: false,
      rules: [[[{ principals: [{ Exact: "cluster.local/ns/demo/sa/other" }] }]]],
    },
  ];
  server = await mesh.pod("server", { node: "b", services: { [`${POD_NAMESPACE}/${HOSTNAME}`]: { 80: PORT } } });
  client = await mesh.pod("client", { node: "a" });
  await mesh.pod("other", { node: "a" });
  await mesh.pod("plain", { node: "b", enrolled: false });
  servers.push(await listenIn(server.host.namespace.path, { ip: server.host.v4, port: PORT }, echo));
  await mesh.reload();
});

after(async () => {
  for (const one of servers) await one[Symbol.asyncDispose]();
  await mesh.close();
});

async function dump(node: string) {
  return JSON.parse((await mesh.get(node, 15_000, "/config_dump")).body);
}

/** Of a data thread that is busy for long a dump leaves out the connections. */
async function wholeDump(node: string, uid: string) {
  return until(
    async () => {
      const all = await dump(node);
      return all.workloadState[uid].connections !== undefined && all;
    },
    { what: `the connections of ${uid} in the dump` },
  );
}

test("the dump shows the mesh, the live connections of both directions and the certificates, but no key", async () => {
  using call = await Call.open(client.host.namespace.path, { ip: VIP, port: 80 });
  await call.say("hello");
  const [a, b] = [await wholeDump("a", "uid-client"), await wholeDump("b", "uid-server")];
  const workload = a.workloads.find(({ name }: { name: string }) => name === "server");
  assert.deepEqual(
    [workload.uid, workload.protocol, workload.workloadIps, workload.services],
    [
      "Kubernetes//Pod/demo/server",
      "HBONE",
      [server.host.v4, server.host.v6].filter((ip) => ip !== undefined),
      [`${POD_NAMESPACE}/${HOSTNAME}`],
    ],
  );
  const service = a.services.find(({ name }: { name: string }) => name === "web");
  assert.deepEqual([service.vips, Object.keys(service.endpoints)], [[`/${VIP}`], ["Kubernetes//Pod/demo/server"]]);
  const policy = a.policies.find(({ name }: { name: string }) => name === "deny-other");
  assert.deepEqual(policy.rules, [[[{ principals: [{ Exact: "cluster.local/ns/demo/sa/other" }] }]]]);

  const { state, info, connections } = a.workloadState["uid-client"];
  assert.deepEqual([state, info], ["Up", { name: "client", namespace: "demo", serviceAccount: "client" }]);
  const { localPort } = call.socket;
  assert.deepEqual(connections.outbound, [
    {
      src: `${client.host.v4}:${localPort}`,
      originalDst: `${VIP}:80`,
      actualDst: `${server.host.v4}:15008`,
      protocol: "HBONE",
    },
  ]);
  const [inbound, ...more] = b.workloadState["uid-server"].connections.inbound;
  assert.deepEqual(more, []);
  assert.match(inbound.src, new RegExp(`^${client.host.v4}:\\d+$`));
  assert.deepEqual(
    [inbound.originalDst, inbound.actualDst, inbound.protocol],
    [HOSTNAME, `${server.host.v4}:${PORT}`, "HBONE"],
  );

  const certificate = b.certificates.find(({ identity }: { identity: string }) => identity.endsWith("/sa/server"));
  assert.equal(certificate.state, "Available");
  assert.match(Buffer.from(certificate.certChain[0].pem, "base64").toString(), /^-----BEGIN CERTIFICATE-----/);
  assert.ok(Date.parse(certificate.certChain[0].expirationTime) > Date.now());
  assert.equal(certificate.rootCerts.length, 1);
  assert.ok(!JSON.stringify(b).includes("PRIVATE KEY"));
  assert.deepEqual([a.config.proxyMode, a.config.localNode], ["Shared", "a"]);
  assert.equal(a.dataThreads.sent, a.dataThreads.applied);

  call.socket.destroy();
  await until(async () => (await dump("a")).workloadState["uid-client"].connections.outbound.length === 0, {
    what: "the connection to leave the dump",
  });
});

test("only requests that no web page can make are answered", async () => {
  assert.equal((await mesh.get("a", 15_000, "/config_dump", { host: "rebound.example" })).status, 403);
  assert.equal((await mesh.get("a", 15_000, "/config_dump", { origin: "http://localhost" })).status, 403);
  const quit = await mesh.request("a", 15_000, "POST", "/quitquitquit", { origin: "null" });
  assert.equal(quit.status, 403);
  assert.equal((await mesh.get("a", 15_000, "/quitquitquit")).status, 405);
  assert.ok(mesh.node("a").ztunnel.running);
  assert.equal((await mesh.get("a", 15_000, "/config_dump", { host: "127.0.0.1:15000" })).status, 200);
});

test("an explanation agrees with what happens to the connection", async () => {
  const explain = async (source: string, destination: string) => {
    const answer = await mesh.get("a", 15_000, `/explain?src=${source}&dst=${destination}`);
    assert.equal(answer.status, 200);
    return JSON.parse(answer.body) as { outcome: string; policy?: string; steps: { code: string; text: string }[] };
  };
  const allowed = await explain("demo/client", `web.demo.svc.cluster.local:80`);
  assert.equal(allowed.outcome, "hbone");
  const denied = await explain("demo/other", `${VIP}:80`);
  assert.deepEqual([denied.outcome, denied.policy], ["denied", "demo/deny-other"]);
  assert.equal((await explain("demo/client", `${mesh.pods.get("plain")?.host.v4}:80`)).outcome, "plaintext");
  assert.equal((await explain("demo/client", "192.0.2.1:80")).outcome, "passthrough");
  assert.equal((await explain("demo/nobody", `${VIP}:80`)).outcome, "unknown");
  assert.equal((await mesh.get("a", 15_000, "/explain")).status, 400);
  const other = mesh.pods.get("other") as LabPod;
  assert.equal(await ask(other.host.namespace.path, { ip: VIP, port: 80 }), "ECONNRESET");
});

test("metrics are the same text at both paths", async () => {
  for (const path of ["/metrics", "/stats/prometheus"]) {
    const { status, body, head } = await mesh.get("a", 15_020, path);
    assert.equal(status, 200);
    assert.match(head, /content-type: text\/plain/i);
    assert.match(body, /^istio_build\{component="ztunnel",/m);
    assert.match(body, /^workload_manager_active_proxy_count 2$/m);
    assert.ok(body.endsWith("# EOF\n"));
  }
});

test("the log level can be changed while it runs", async () => {
  const level = async (query: string) => (await mesh.request("a", 15_000, "POST", `/logging${query}`)).body;
  assert.match(await level("?level=access=debug"), /access=debug/);
  using call = await Call.open(client.host.namespace.path, { ip: VIP, port: 80 });
  await call.say("hello");
  await until(() => mesh.logLines("a", "connection opened", 'src.workload="client"').length > 0, { what: "the line" });
  assert.doesNotMatch(await level("?reset"), /access=debug/);
});

test("readiness names what is missing: without the node agent a ztunnel is not ready", async () => {
  const ready = () => mesh.get("b", 15_021, "/healthz/ready");
  assert.deepEqual([(await ready()).status, (await ready()).body], [200, "ready\n"]);
  mesh.node("b").agent.close();
  await until(async () => (await ready()).status === 500, { what: "it to be not ready any more" });
  assert.equal((await ready()).body, "not ready, pending: workload proxy manager\n");
  using call = await Call.open(client.host.namespace.path, { ip: VIP, port: 80 });
  await call.say("traffic goes on");
});
