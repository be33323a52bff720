import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { connectFrom, listenIn, until } from "@tulle/lab";
import { ask, Call, echo } from "./call.ts";
import { ForeignClient, foreignTls } from "./foreign-hbone.ts";
import { type LabPod, MeshLab } from "./mesh-lab.ts";

/** What one pod or one stranger may take of the node, and that the others do not notice. */

const PORT = 8080;
const PER_POD = 20;
const PER_SOURCE = 4;
const PER_LISTENER = 6;
/** Handshake and first CONNECT must come within this time. */
const AUTHENTICATION_MS = 10_000;
/** For a machine with other things to do. */
const SLACK_MS = 10_000;

let mesh: MeshLab;
let server: LabPod;
let plain: LabPod;
let strangers: readonly LabPod[];
const servers: AsyncDisposable[] = [];

before(async () => {
  mesh = await MeshLab.create({
    nodes: ["a"],
    environment: {
      TULLE_MAX_CONNECTIONS_PER_POD: String(PER_POD),
      TULLE_MAX_UNAUTHENTICATED_PER_SOURCE: String(PER_SOURCE),
      TULLE_MAX_UNAUTHENTICATED_PER_LISTENER: String(PER_LISTENER),
    },
  });
  server = await mesh.pod("server", { node: "a" });
  await mesh.pod("greedy", { node: "a" });
  await mesh.pod("modest", { node: "a" });
  plain = await mesh.pod("plain", { node: "a", enrolled: false });
  strangers = [
    await mesh.pod("stranger-1", { node: "a", enrolled: false }),
    await mesh.pod("stranger-2", { node: "a", enrolled: false }),
  ];
  for (const { host } of [server, plain]) {
    servers.push(await listenIn(host.namespace.path, { ip: host.v4, port: PORT }, echo));
  }
  await mesh.reload();
});

after(async () => {
  for (const one of servers) await one[Symbol.asyncDispose]();
  await mesh.close();
});

const pathOf = (pod: string) => (mesh.pods.get(pod) as LabPod).host.namespace.path;
const refused = (reason: string) => mesh.metric("a", "tulle_connections_refused_total", { reason });

test("a pod that has its fill of connections gets no more, its neighbour does, and it recovers", async () => {
  const to = { ip: plain.host.v4, port: PORT };
  const before = await refused("pod_connections");
  const calls = await Promise.all(Array.from({ length: PER_POD }, () => Call.open(pathOf("greedy"), to)));
  await Promise.all(calls.map((call) => call.say("hello")));
  assert.equal(await ask(pathOf("greedy"), to), "ECONNRESET");
  assert.equal(await ask(pathOf("modest"), to), "ok");
  await until(async () => (await refused("pod_connections")) === before + 1, { what: "the refusal to be counted" });
  const text = `the pod has ${PER_POD} connections, as many as it may`;
  await until(() => mesh.logLines("a", text, 'direction="outbound"').length === 1, { what: "the log to say why" });
  await Promise.all(calls.map((call) => call.say("still here")));
  calls[0]?.socket.destroy();
  await until(async () => (await ask(pathOf("greedy"), to)) === "ok", { what: "room for another one" });
  for (const call of calls) call.socket.destroy();
});

test("a pod's limit holds for what comes in as well, tunnels of one connection included", async () => {
  const certificate = await mesh.ca.authority.issueIdentity(mesh.identity("modest"));
  using client = await ForeignClient.connect({ namespacePath: pathOf("plain"), ip: server.host.v4, certificate });
  const authority = `${server.host.v4}:${PORT}`;
  const tunnels = await Promise.all(Array.from({ length: PER_POD }, () => client.tunnel(authority)));
  assert.equal(await client.connect(authority), 503);
  assert.equal(await ask(pathOf("plain"), { ip: server.host.v4, port: PORT }), "ECONNRESET");
  tunnels[0]?.close();
  await until(async () => (await client.connect(authority)) === 200, { what: "room for another one" });
});

/** Connects to 15008 and says nothing. */
function silent(pod: LabPod): Promise<Call> {
  return Call.open(pod.host.namespace.path, { ip: server.host.v4, port: 15_008 });
}

test("strangers that do not authenticate are bounded, by source and in total, and cut after ten seconds", async () => {
  const [one, two] = strangers as [LabPod, LabPod];
  const start = performance.now();
  const mine = await Promise.all(Array.from({ length: PER_SOURCE }, () => silent(one)));
  const unauthenticated = () => mesh.metric("a", "tulle_unauthenticated_connections");
  await until(async () => (await unauthenticated()) === PER_SOURCE, { what: "them to be counted" });
  await assertRefused(one, "unauthenticated_source");
  const theirs = await Promise.all(Array.from({ length: PER_LISTENER - PER_SOURCE }, () => silent(two)));
  const opened = performance.now();
  await until(async () => (await unauthenticated()) === PER_LISTENER, { what: "all of them to be counted" });
  await assertRefused(two, "unauthenticated_listener");
  const all = [...mine, ...theirs];
  assert.ok(all.every(({ end }) => end === undefined));
  const timeouts = await refused("authentication_timeout");
  await Promise.all(all.map((call) => call.over(AUTHENTICATION_MS + SLACK_MS)));
  const now = performance.now();
  assert.ok(now - start > AUTHENTICATION_MS - 500, `${Math.round(now - start)} ms after the first`);
  assert.ok(now - opened < AUTHENTICATION_MS + SLACK_MS, `${Math.round(now - opened)} ms after the last`);
  await until(async () => (await refused("authentication_timeout")) === timeouts + PER_LISTENER, { what: "the count" });
  await until(async () => (await unauthenticated()) === 0, { what: "the gauge to return" });
  assert.equal(await ask(pathOf("modest"), { ip: server.host.v4, port: PORT }), "ok");
});

async function assertRefused(pod: LabPod, reason: string): Promise<void> {
  const before = await refused(reason);
  const call = await silent(pod).catch((error: NodeJS.ErrnoException) => error.code);
  // A reset may come before Node has noticed that it was connected.
  assert.equal(call instanceof Call ? await call.over() : call, "ECONNRESET");
  await until(async () => (await refused(reason)) === before + 1, { what: `a refusal for ${reason}` });
}

test("a peer that has a certificate but asks for nothing is cut after ten seconds, one that has asked is not", async () => {
  const certificate = await mesh.ca.authority.issueIdentity(mesh.identity("modest"));
  const options = { namespacePath: pathOf("plain"), ip: server.host.v4, certificate };
  const timeouts = await refused("authentication_timeout");
  const start = performance.now();
  using asking = await ForeignClient.connect(options);
  const tunnel = await asking.tunnel(`${server.host.v4}:${PORT}`);
  const idle = await foreignTls(options);
  // Node sees the end of what it reads only.
  idle.resume();
  await until(() => idle.readableEnded || idle.destroyed, {
    what: "the idle peer to be cut",
    timeoutMs: AUTHENTICATION_MS + SLACK_MS,
  });
  assert.ok(performance.now() - start > AUTHENTICATION_MS - 500, "it had its time");
  await until(async () => (await refused("authentication_timeout")) === timeouts + 1, {
    what: "the cut to be counted",
  });
  tunnel.end("still here");
  let answer = "";
  for await (const piece of tunnel) answer += (piece as Buffer).toString();
  assert.equal(answer, "still here");
});

test("a handshake that comes in drops is cut at the same deadline, however busy it looks", async () => {
  const raw = await connectFrom(pathOf("plain"), { ip: server.host.v4, port: 15_008 });
  const start = performance.now();
  // A record of a ClientHello that never gets complete: 16 KiB announced, a byte now and then.
  raw.resume().write(Buffer.from([22, 3, 1, 0x40, 0]));
  const drops = setInterval(() => raw.write(Buffer.from([0])), 500);
  using _ = { [Symbol.dispose]: () => clearInterval(drops) };
  await until(() => raw.destroyed, { what: "the cut", timeoutMs: AUTHENTICATION_MS + SLACK_MS });
  assert.ok(performance.now() - start < AUTHENTICATION_MS + SLACK_MS);
});
