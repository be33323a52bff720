import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { listenIn, run, until } from "@tulle/lab";
import { ask, Call, echo } from "./call.ts";
import { type LabPod, MeshLab } from "./mesh-lab.ts";

/** What breaks in a mesh, and what applications notice of it: peers that vanish, readers that sleep, tables that are full. */

const PORT = 8080;
const FLOOD_PORT = 8081;
/** A dead peer must be noticed within this time (PING, spec l4-ztunnel §2.5: 10 s and as much again), and slack for a busy machine. */
const DEAD_PEER_MS = 20_000;
const DEAD_PEER_SLACK_MS = 20_000;
const SLOW_READERS = 500;
/** What hundreds of connections need, to be opened or to give back what they hold, on a busy machine. */
const MANY_MS = 60_000;
/** An answer beside the sleepers comes within this time; of ASKED a busy machine may be late with MAX_LATE. */
const PROMPT_MS = 2000;
const ASKED = 20;
const MAX_LATE = 5;
/** The pod's budget of buffered bytes, once at each end, and as much for what the garbage collector has not seen yet. */
const RSS_GROWTH_BYTES = 256 * 1024 * 1024;
const THROW_ON_SIGNAL = fileURLToPath(new URL("./fixtures/throw-on-signal.ts", import.meta.url));

let mesh: MeshLab;
let server: LabPod;
let client: LabPod;
const servers: AsyncDisposable[] = [];

before(async () => {
  mesh = await MeshLab.create({ environment: { POOL_MAX_STREAMS_PER_CONNECTION: "1000" } });
  server = await mesh.pod("server", { node: "b" });
  client = await mesh.pod("client", { node: "a" });
  servers.push(
    await listenIn(server.host.namespace.path, { ip: server.host.v4, port: PORT }, echo),
    await listenIn(server.host.namespace.path, { ip: server.host.v4, port: FLOOD_PORT }, flood),
  );
  await mesh.reload();
});

after(async () => {
  for (const one of servers) await one[Symbol.asyncDispose]();
  await mesh.close();
});

/** Sends as long as somebody takes it. */
function flood(socket: Socket): void {
  const piece = Buffer.alloc(64 * 1024, "x");
  const more = () => {
    while (!socket.destroyed && socket.write(piece));
  };
  socket.on("drain", more).resume();
  more();
}

const to = (port = PORT) => ({ ip: server.host.v4, port });
const askFromClient = () => ask(client.host.namespace.path, to());
const openFromClient = async (port = PORT) => Call.open(client.host.namespace.path, to(port));

/** Resident bytes of a process, from /proc. */
function rss(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line?.[1]) * 1024;
}

test("a peer that vanishes from the network is noticed within 20 s, and its pooled connection is not used again", async () => {
  using call = await openFromClient();
  await call.say("hello");
  await until(async () => (await mesh.metric("a", "tulle_pool_connections")) === 1, { what: "the pool's connection" });
  await mesh.lab.connected(server.host, false);
  await using _ = { [Symbol.asyncDispose]: () => mesh.lab.connected(server.host, true) };
  const start = performance.now();
  call.socket.write("into the void");
  assert.equal(await call.over(DEAD_PEER_MS + DEAD_PEER_SLACK_MS), "ECONNRESET");
  const elapsed = performance.now() - start;
  assert.ok(elapsed < DEAD_PEER_MS + DEAD_PEER_SLACK_MS, `noticed after ${Math.round(elapsed)} ms`);
  const text = "the peer does not answer PING";
  await until(() => mesh.logLines("a", text, 'dst.workload="server"').length === 1, { what: "the log to say why" });
  await until(async () => (await mesh.metric("a", "tulle_pool_connections")) === 0, { what: "the pool to let go" });
  await mesh.lab.connected(server.host, true);
  await until(async () => (await askFromClient()) === "ok", { what: "the peer's return", timeoutMs: 20_000 });
  // The server's side lets go of its half, too: only what the questions since then have left is short-lived.
  await until(async () => (await mesh.get("b", 15_000, "/config_dump")).body.includes('"inbound": []'), {
    what: "the server's node to forget the connection",
    timeoutMs: DEAD_PEER_MS + DEAD_PEER_SLACK_MS,
  });
});

test("a pod whose ztunnel is told that it is gone takes its connections along, at both ends", async () => {
  const victim = await mesh.pod("victim", { node: "b" });
  await mesh.reload();
  const ip = victim.host.v4;
  const app = await listenIn(victim.host.namespace.path, { ip, port: PORT }, echo);
  using call = await Call.open(client.host.namespace.path, { ip, port: PORT });
  await call.say("hello");
  await mesh.node("b").agent.del("uid-victim");
  assert.ok(await call.over());
  await app[Symbol.asyncDispose]();
  assert.equal(await askFromClient(), "ok");
});

test("a ztunnel that is out of descriptors keeps what it has, counts what it cannot take, and recovers", async () => {
  const { ztunnel } = mesh.node("a");
  using open = await openFromClient();
  await open.say("before");
  const errors = await mesh.metric("a", "tulle_accept_errors_total");
  // The socket of the metrics request itself needs room, too.
  const used = readdirSync(`/proc/${ztunnel.pid}/fd`).length;
  const original = /^Max open files\s+(\d+)\s+(\d+)/m.exec(readFileSync(`/proc/${ztunnel.pid}/limits`, "utf8"));
  await run("prlimit", ["--pid", String(ztunnel.pid), `--nofile=${used + 8}:${original?.[2]}`]);
  const calls = await Promise.all(Array.from({ length: 30 }, () => openFromClient().catch(() => undefined)));
  await open.say("meanwhile");
  for (const call of calls) call?.socket.destroy();
  await run("prlimit", ["--pid", String(ztunnel.pid), `--nofile=${original?.[1]}:${original?.[2]}`]);
  await until(async () => (await askFromClient()) === "ok", { what: "new connections to be taken again" });
  await until(async () => (await mesh.metric("a", "tulle_accept_errors_total")) > errors, { what: "failed accepts" });
  await open.say("after");
  assert.ok(ztunnel.running);
});

test("500 readers that sleep on one connection neither stall the others nor take memory without end", async () => {
  assert.equal(await askFromClient(), "ok");
  const [a, b] = [mesh.node("a").ztunnel.pid, mesh.node("b").ztunnel.pid];
  const before = [rss(a), rss(b)];
  const sleepers: Socket[] = [];
  using _ = { [Symbol.dispose]: () => sleepers.forEach((socket) => socket.destroy()) };
  for (let i = 0; i < SLOW_READERS; i += 50) {
    const more = await Promise.all(Array.from({ length: 50 }, () => openFromClient(FLOOD_PORT)));
    for (const { socket } of more) sleepers.push(socket.pause());
  }
  await until(async () => (await mesh.metric("a", "tulle_pool_tunnels")) >= SLOW_READERS, {
    what: "500 tunnels",
    timeoutMs: MANY_MS,
  });
  // The peer allows 200 streams a connection: not one for each reader.
  assert.ok((await mesh.metric("a", "tulle_pool_connections")) <= 5);
  let last = -1;
  await until(
    async () => {
      const now = await mesh.metric("a", "tulle_buffered_bytes");
      const settled = now === last;
      last = now;
      return settled;
    },
    { what: "buffers to fill", timeoutMs: 30_000, intervalMs: 500 },
  );
  const took: number[] = [];
  for (let i = 0; i < ASKED; i++) {
    using call = await openFromClient();
    const start = performance.now();
    await call.say("not held up");
    took.push(performance.now() - start);
  }
  const late = took.filter((ms) => ms > PROMPT_MS);
  assert.ok(late.length <= MAX_LATE, `late answers: ${late.map(Math.round).join(", ")} ms`);
  const grown = [rss(a) - (before[0] ?? 0), rss(b) - (before[1] ?? 0)];
  for (const bytes of grown) assert.ok(bytes < RSS_GROWTH_BYTES, `grew by ${grown.map((n) => n >> 20).join(", ")} MiB`);
  for (const socket of sleepers) socket.destroy();
  await until(async () => (await mesh.metric("a", "tulle_buffered_bytes")) === 0, {
    what: "buffers to be given back",
    timeoutMs: MANY_MS,
  });
});

test("a data thread that throws ends the process with code 1, cuts what it had, and the next start serves again", async () => {
  const node = mesh.node("b");
  node.ztunnel.signal("SIGTERM");
  await node.ztunnel.ended;
  await mesh.restart("b", { NODE_OPTIONS: `--import ${THROW_ON_SIGNAL}` });
  await until(async () => (await askFromClient()) === "ok", { what: "traffic" });
  using call = await openFromClient();
  await call.say("hello");
  const { ztunnel } = node;
  ztunnel.signal("SIGUSR2");
  assert.deepEqual(await ztunnel.ended, { code: 1, signal: null });
  assert.match(ztunnel.output, /data thread failed.*a data thread was told to throw/);
  assert.ok(await call.over());
  await mesh.restart("b");
  await until(async () => (await askFromClient()) === "ok", { what: "traffic again" });
});
