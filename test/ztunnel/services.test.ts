import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { after, afterEach, before, test } from "node:test";
import { listenIn, until } from "@tulle/lab";
import { ask, Call, echo } from "./call.ts";
import { foreignServer } from "./foreign-hbone.ts";
import { type LabPod, MeshLab, type PodOptions, POD_NAMESPACE } from "./mesh-lab.ts";

/** Services: which endpoint answers, what happens when one does not, and addresses that are or should be known. */

const PORT = 8080;
const VIP = "10.200.0.1";
const HOSTNAME = "web.demo.svc.cluster.local";
const KEY = `${POD_NAMESPACE}/${HOSTNAME}`;
const SERVICE = { name: "web", namespace: POD_NAMESPACE, hostname: HOSTNAME, vips: [`/${VIP}`], ports: { 80: PORT } };
const EMPTY_VIP = "10.200.0.2";
const EMPTY = { ...SERVICE, name: "empty", hostname: "empty.demo.svc.cluster.local", vips: [`/${EMPTY_VIP}`] };
/** Inside MESH_CIDRS and the lab's own network, but nobody's; a server outside the mesh has the second one. */
const MESH_CIDR = "10.96.200.0/24";
const STATE_WAIT_MS = 5000;
/** A timer is not exact, and an answer may be late on a machine with other things to do. */
const EARLY_MS = 500;
const SLACK_MS = 15_000;
/** So much less than a wait shows that there was none, on a busy machine too. */
const NO_WAIT_MS = STATE_WAIT_MS - 200;

let mesh: MeshLab;
let client: LabPod;
const servers: AsyncDisposable[] = [];
const endpoints: readonly [name: string, options: PodOptions, port: number][] = [
  ["near", { node: "a", services: { [KEY]: { 80: PORT } } }, PORT],
  ["far", { node: "b", services: { [KEY]: { 80: PORT } } }, PORT],
  // Its own port for the service's: what a named target port becomes.
  ["named", { node: "b", services: { [KEY]: { 80: 9090 } } }, 9090],
];

before(async () => {
  mesh = await MeshLab.create({ environment: { MESH_CIDRS: MESH_CIDR } });
  mesh.services = [SERVICE, EMPTY];
  client = await mesh.pod("client", { node: "a" });
  for (const [name, options, port] of endpoints) {
    const pod = await mesh.pod(name, options);
    const say = (socket: Socket) => socket.end(name);
    servers.push(await listenIn(pod.host.namespace.path, { ip: pod.host.v4, port }, say));
  }
  await mesh.reload();
});

afterEach(async () => {
  for (const [name, options] of endpoints) (mesh.pods.get(name) as LabPod).options = options;
  mesh.services = [SERVICE, EMPTY];
  mesh.moreWorkloads = [];
  mesh.policies = [];
  await mesh.reload();
});

after(async () => {
  for (const one of servers) await one[Symbol.asyncDispose]();
  await mesh.close();
});

/** Who answers; or how the connection ended without an answer. */
async function whoAnswers(ip = VIP, port = 80): Promise<string> {
  try {
    using call = await Call.open(client.host.namespace.path, { ip, port });
    const end = await call.over();
    return call.received === "" ? end : call.received;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

async function answers(count: number): Promise<Map<string, number>> {
  const seen = new Map<string, number>();
  for (let i = 0; i < count; i++) {
    const who = await whoAnswers();
    seen.set(who, (seen.get(who) ?? 0) + 1);
  }
  return seen;
}

function assertWaited(elapsed: number): void {
  const text = `refused after ${Math.round(elapsed)} ms`;
  assert.ok(elapsed > STATE_WAIT_MS - EARLY_MS && elapsed < STATE_WAIT_MS + SLACK_MS, text);
}

/** Leaves the service's endpoints to those named. */
function onlyEndpoints(...names: readonly string[]): void {
  for (const [name, options] of endpoints) {
    const services = names.includes(name) ? options.services : {};
    (mesh.pods.get(name) as LabPod).options = { ...options, services: services ?? {} };
  }
}

test("every endpoint of a service gets connections, on both nodes and at its own port, and the log says which", async () => {
  const seen = await answers(60);
  assert.deepEqual([...seen.keys()].sort(), ["far", "named", "near"]);
  // With equal weights fewer than two of 60 would be one run in hundreds of millions.
  for (const [who, count] of seen) assert.ok(count >= 2, `${who} was asked ${count} times`);
  for (const [name, , port] of endpoints) {
    const { v4 } = (mesh.pods.get(name) as LabPod).host;
    const fields = [`dst.service="${HOSTNAME}"`, `dst.workload="${name}"`, `dst.hbone_addr=${v4}:${port} `];
    await until(() => mesh.logLines("a", 'direction="outbound"', `dst.addr=${v4}:15008`, ...fields).length > 0, {
      what: `the log of a connection to ${name}`,
    });
  }
});

test("an endpoint that does not answer costs a retry, not a connection", async () => {
  const before = await mesh.metric("a", "tulle_connect_retries_total");
  // Nobody listens on this port of the pod: its node answers 503.
  (mesh.pods.get("far") as LabPod).options = { node: "b", services: { [KEY]: { 80: 9999 } } };
  await mesh.reload();
  const seen = await answers(40);
  assert.deepEqual([...seen.keys()].sort(), ["named", "near"]);
  assert.ok((await mesh.metric("a", "tulle_connect_retries_total")) > before, "nothing was retried");
});

test("an endpoint that refuses with 401 is the answer: no other one is tried", async () => {
  const before = await mesh.metric("a", "tulle_connect_retries_total");
  onlyEndpoints("near", "far");
  (mesh.pods.get("near") as LabPod).options = {
    node: "a",
    services: { [KEY]: { 80: PORT } },
    policies: [`${POD_NAMESPACE}/nobody`],
  };
  mesh.policies = [
    { name: "nobody", namespace: POD_NAMESPACE, scope: "WorkloadSelector", action: "Allow", dryRun: false, rules: [] },
  ];
  await mesh.reload();
  const seen = await answers(30);
  assert.deepEqual([...seen.keys()].sort(), ["ECONNRESET", "far"]);
  assert.equal(await mesh.metric("a", "tulle_connect_retries_total"), before);
});

test("a service without endpoints refuses at once, and so does a port that it does not have", async () => {
  for (const [ip, port] of [
    [EMPTY_VIP, 80],
    [VIP, 81],
  ] as const) {
    const start = performance.now();
    assert.equal(await whoAnswers(ip, port), "ECONNRESET");
    assert.ok(performance.now() - start < NO_WAIT_MS, "it was not a wait");
    await until(() => mesh.logLines("a", `no healthy upstream: ${ip}:${port}`).length > 0, { what: "the log" });
  }
});

test("an address that changes hands drops the pooled connection at once", async () => {
  const claimed = await mesh.pod("claimed", { node: "b", enrolled: false, extra: { protocol: "HBONE" } });
  await mesh.reload();
  const ip = claimed.host.v4;
  const peer = (account: string) =>
    mesh.ca.authority
      .issueIdentity({ ...mesh.identity("client"), serviceAccount: account })
      .then((certificate) => foreignServer({ namespacePath: claimed.host.namespace.path, ip, certificate }));
  const first = await peer("claimed");
  using open = await Call.open(client.host.namespace.path, { ip, port: PORT });
  await open.say("to the old owner");
  const dropped = await mesh.metric("a", "tulle_pool_connections_dropped_total");
  // The same address, now of another workload.
  mesh.pods.delete("claimed");
  mesh.moreWorkloads = [
    {
      uid: "Kubernetes//Pod/demo/heir",
      name: "heir",
      namespace: POD_NAMESPACE,
      serviceAccount: "heir",
      workloadIps: [ip],
      protocol: "HBONE",
      node: "b",
      services: {},
    },
  ];
  await mesh.reload();
  assert.equal(await open.over(), "ECONNRESET");
  await until(async () => (await mesh.metric("a", "tulle_pool_connections_dropped_total")) === dropped + 1, {
    what: "the drop to be counted",
  });
  assert.equal(await ask(client.host.namespace.path, { ip, port: PORT }), "ECONNRESET");
  assert.equal(first.bytes, "to the old owner".length);
  await first[Symbol.asyncDispose]();
  await using heir = await peer("heir");
  assert.equal(await ask(client.host.namespace.path, { ip, port: PORT }), "ok");
  assert.equal(heir.authorities.length, 1);
});

test("an unknown address inside MESH_CIDRS is refused after a wait, never passed on; outside it passes", async () => {
  const ip = "10.96.200.1";
  await mesh.lab.fabric.ip([`addr add ${ip}/32 dev ${mesh.lab.bridge}`]);
  let arrived = 0;
  const hidden = await listenIn(mesh.lab.fabric.path, { ip, port: PORT }, (socket) => {
    arrived++;
    echo(socket);
  });
  const outside = await listenIn(mesh.lab.fabric.path, { ip: mesh.lab.gateway.v4, port: PORT }, echo);
  await using capture = await mesh.lab.fabric.capture(mesh.lab.bridge, `host ${ip}`);
  const start = performance.now();
  assert.equal(await ask(client.host.namespace.path, { ip, port: PORT }, "not for the wire"), "ECONNRESET");
  const elapsed = performance.now() - start;
  assertWaited(elapsed);
  await until(() => mesh.logLines("a", `unknown destination: ${ip}:${PORT} is in MESH_CIDRS`).length === 1, {
    what: "the log to say why",
  });
  assert.equal(await mesh.metric("a", "tulle_connections_refused_total", { reason: "unknown_destination" }), 1);
  assert.equal(arrived, 0);
  assert.deepEqual(await capture.stop(), []);
  assert.equal(await ask(client.host.namespace.path, { ip: mesh.lab.gateway.v4, port: PORT }), "ok");
  await hidden[Symbol.asyncDispose]();
  await outside[Symbol.asyncDispose]();
});

test("a service whose waypoint is unknown is refused after a wait, never answered directly", async () => {
  mesh.services = [
    { ...SERVICE, waypoint: { destination: `${POD_NAMESPACE}/nowhere.example`, hboneMtlsPort: 15_008 } },
  ];
  await mesh.reload();
  const start = performance.now();
  assert.equal(await whoAnswers(), "ECONNRESET");
  const elapsed = performance.now() - start;
  assertWaited(elapsed);
  await until(() => mesh.logLines("a", "unknown waypoint: ", "nowhere.example").length === 1, { what: "the log" });
});
