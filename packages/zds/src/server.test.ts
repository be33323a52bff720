import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { silentLog } from "@tulle/base";
import { type Descriptor, NativeBuffer, NetNamespace, openDescriptors, SeqpacketSocket } from "@tulle/linux";
import { decodeRequest, encodeAck, encodeHello, type PodInfo, type ZdsRequest } from "./protocol.ts";
import { type AgentPod, ZdsServer, type ZdsServerOptions } from "./server.ts";

const INFO: PodInfo = { name: "p", namespace: "ns", serviceAccount: "sa" };
let folder = "";
let path = "";
let before: readonly string[] = [];
let namespace: NetNamespace;
const ends: (() => void)[] = [];
/** Of answers and of hellos: short, for each one that does not come is waited for; long enough for those that do, on a busy machine. */
const PATIENCE_MS = 1000;

beforeEach(() => {
  before = openDescriptors();
  folder = mkdtempSync(join(tmpdir(), "zds-server-"));
  path = join(folder, "z.sock");
  namespace = NetNamespace.open("/proc/self/ns/net");
});

afterEach(() => {
  for (const end of ends.splice(0)) end();
  namespace.close();
  rmSync(folder, { recursive: true });
  assert.deepEqual(openDescriptors(), before, "every descriptor was closed");
});

const pod = (uid: string, info = INFO): AgentPod => ({ uid, info, namespace });

function startServer(options: Partial<ZdsServerOptions> = {}): ZdsServer {
  const server = new ZdsServer({ path, log: silentLog, snapshot: () => [], ...options });
  ends.push(() => server.close());
  return server;
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.fail(`waited 5 s for ${what}`);
}

/** A proxy whose every byte the test decides. */
class RawProxy {
  readonly #socket = SeqpacketSocket.connect(path);
  readonly #buffer = NativeBuffer.alloc(4096);
  /** How many descriptors came with each request. */
  readonly descriptors: number[] = [];

  constructor() {
    ends.push(() => this.#socket.close());
  }

  send(bytes: Uint8Array, descriptors: readonly Descriptor[] = []): void {
    this.#socket.send(NativeBuffer.from(bytes), 0, bytes.length, descriptors);
  }

  /** Undefined: the server has hung up. */
  async next(): Promise<ZdsRequest | undefined> {
    let length = -1;
    await until(() => (length = this.#socket.receive(this.#buffer, 0, 4096)) >= 0, "a message from the agent");
    const taken = this.#socket.takeDescriptors();
    this.descriptors.push(taken.length);
    for (const descriptor of taken) descriptor.close();
    return length === 0 ? undefined : decodeRequest(Uint8Array.from(this.#buffer.bytes.subarray(0, length)));
  }

  ack(error?: string): void {
    this.send(encodeAck({ error }));
  }

  /** Hello, and an empty snapshot. */
  async join(): Promise<this> {
    this.send(encodeHello());
    assert.deepEqual(await this.next(), { kind: "snapshot-sent" });
    this.ack();
    return this;
  }

  close(): void {
    this.#socket.close();
  }
}

test("only root can reach the socket", () => {
  startServer();
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test("an Add carries the namespace, a Keep and a Del do not", async () => {
  const server = startServer({ snapshot: () => [pod("a"), { uid: "b", info: INFO, namespace: undefined }] });
  const proxy = new RawProxy();
  proxy.send(encodeHello());
  assert.deepEqual(await proxy.next(), { kind: "add", uid: "a", info: INFO });
  proxy.ack();
  assert.deepEqual(await proxy.next(), { kind: "keep", uid: "b" });
  proxy.ack();
  assert.deepEqual(await proxy.next(), { kind: "snapshot-sent" });
  proxy.ack();
  await until(() => server.connected === 1, "the snapshot");
  const gone = server.del("a");
  assert.deepEqual(await proxy.next(), { kind: "del", uid: "a" });
  proxy.ack();
  await gone;
  assert.deepEqual(proxy.descriptors, [1, 0, 0, 0]);
});

test("an Add goes to the newest proxy, a Del to all; when the newest goes, the one before counts again", async () => {
  const server = startServer();
  const old = await new RawProxy().join();
  const young = await new RawProxy().join();
  await until(() => server.connected === 2, "both snapshots");
  const added = server.add(pod("a"));
  assert.equal((await young.next())?.kind, "add");
  young.ack();
  await added;
  const gone = server.del("a");
  assert.equal((await old.next())?.kind, "del");
  old.ack();
  assert.equal((await young.next())?.kind, "del");
  young.ack();
  await gone;
  young.close();
  await until(() => server.connected === 1, "the agent to notice");
  const again = server.add(pod("b"));
  assert.equal((await old.next())?.kind, "add");
  old.ack();
  await again;
});

test("what changes during a snapshot is told after it", async () => {
  const server = startServer({ snapshot: () => [pod("a"), pod("b")] });
  const old = new RawProxy();
  old.send(encodeHello());
  for (const kind of ["add", "add", "snapshot-sent"]) {
    assert.equal((await old.next())?.kind, kind);
    old.ack();
  }
  await until(() => server.connected === 1, "the first snapshot");
  const young = new RawProxy();
  young.send(encodeHello());
  assert.deepEqual(await young.next(), { kind: "add", uid: "a", info: INFO });
  const added = server.add(pod("late"));
  const gone = server.del("b");
  assert.equal((await old.next())?.kind, "del");
  old.ack();
  const seen: string[] = [];
  for (let i = 0; i < 4; i++) {
    young.ack();
    const request = await young.next();
    seen.push(request === undefined ? "end" : `${request.kind} ${"uid" in request ? request.uid : ""}`);
  }
  young.ack();
  await Promise.all([added, gone]);
  assert.deepEqual(seen, ["add b", "snapshot-sent ", "add late", "del b"]);
});

test("a refusal, or no answer in time, makes that Add fail and nothing else", async () => {
  const server = startServer({ ackTimeoutMs: PATIENCE_MS });
  const proxy = await new RawProxy().join();
  await until(() => server.connected === 1, "the snapshot");
  const refused = assert.rejects(server.add(pod("a")), /no listener/);
  await proxy.next();
  proxy.ack("failure to start proxy : no listener");
  await refused;
  await assert.rejects(server.add(pod("slow")), /has not answered within 1 s/);
  assert.equal(server.connected, 1);
});

test("an answer that comes too late does not count for the next message", async () => {
  const server = startServer({ ackTimeoutMs: PATIENCE_MS });
  const proxy = await new RawProxy().join();
  await until(() => server.connected === 1, "the snapshot");
  await assert.rejects(server.add(pod("slow")), /has not answered/);
  assert.equal((await proxy.next())?.kind, "add");
  const refused = assert.rejects(server.add(pod("next")), /the second answer/);
  assert.equal((await proxy.next())?.kind, "add");
  proxy.ack("the first answer, late");
  proxy.ack("the second answer");
  await refused;
  assert.equal(server.connected, 1);
});

test("while the newest proxy owes an answer the one before is told of pods", async () => {
  const server = startServer({ ackTimeoutMs: PATIENCE_MS });
  const old = await new RawProxy().join();
  const young = await new RawProxy().join();
  await until(() => server.connected === 2, "both snapshots");
  await assert.rejects(server.add(pod("a")), /has not answered/);
  const second = server.add(pod("a"));
  assert.equal((await old.next())?.kind, "add");
  old.ack();
  await second;
  assert.equal((await young.next())?.kind, "add");
  young.ack();
  const gone = server.del("b");
  for (const proxy of [old, young]) {
    assert.equal((await proxy.next())?.kind, "del");
    proxy.ack();
  }
  await gone;
  const third = server.add(pod("c"));
  assert.deepEqual(await young.next(), { kind: "add", uid: "c", info: INFO });
  young.ack();
  await third;
});

test("a proxy that owes three answers is left, and holds up nobody with a snapshot that it does not take", async () => {
  const server = startServer({
    ackTimeoutMs: PATIENCE_MS,
    snapshot: () => ["a", "b", "c", "d", "e"].map((uid) => pod(uid)),
  });
  const old = new RawProxy();
  old.send(encodeHello());
  for (const kind of ["add", "add", "add", "add", "add", "snapshot-sent"]) {
    assert.equal((await old.next())?.kind, kind);
    old.ack();
  }
  await until(() => server.connected === 1, "the first snapshot");
  const young = new RawProxy();
  young.send(encodeHello());
  assert.equal((await young.next())?.kind, "add");
  await assert.rejects(server.add(pod("f")), /owes 3 answers/);
  for (const kind of ["add", "add", undefined]) assert.equal((await young.next())?.kind, kind);
  const again = server.add(pod("f"));
  assert.deepEqual(await old.next(), { kind: "add", uid: "f", info: INFO });
  old.ack();
  await again;
});

test("a proxy that does not say hello in time, or says something else, is left", async () => {
  startServer({ helloTimeoutMs: 30, snapshot: () => [pod("secret")] });
  for (const first of [undefined, Uint8Array.of(1, 2, 3), encodeAck({ error: undefined }), new Uint8Array(2000)]) {
    const proxy = new RawProxy();
    if (first !== undefined) proxy.send(first);
    assert.equal(await proxy.next(), undefined);
  }
});

test("a proxy that talks out of turn, too long, or with descriptors is left", async () => {
  const server = startServer();
  const handle = { fd: namespace.descriptor, closed: false } as unknown as Descriptor;
  const cases: ((proxy: RawProxy) => void)[] = [
    (proxy) => proxy.ack(),
    (proxy) => proxy.send(new Uint8Array(1025)),
    (proxy) => proxy.send(encodeAck({ error: undefined }), [handle]),
  ];
  for (const misbehave of cases) {
    const proxy = await new RawProxy().join();
    await until(() => server.connected === 1, "the snapshot");
    misbehave(proxy);
    assert.equal(await proxy.next(), undefined);
    await until(() => server.connected === 0, "the agent to forget it");
  }
});

test("a pod whose names do not fit is refused before it is sent", async () => {
  const server = startServer();
  await new RawProxy().join();
  await until(() => server.connected === 1, "the snapshot");
  await assert.rejects(server.add(pod("a", { ...INFO, name: "x".repeat(1100) })), /do not fit into 1024 bytes/);
  assert.equal(server.connected, 1);
});

test("when the agent ends, whoever waits is told", async () => {
  const server = startServer();
  const proxy = await new RawProxy().join();
  await until(() => server.connected === 1, "the snapshot");
  const waiting = assert.rejects(server.add(pod("a")), /was closed/);
  await proxy.next();
  server.close();
  await waiting;
});

test("proxies at a time are bounded", async () => {
  const server = startServer();
  const proxies: RawProxy[] = [];
  for (let i = 0; i < 16; i++) proxies.push(await new RawProxy().join());
  await until(() => server.connected === 16, "all snapshots");
  assert.equal(await new RawProxy().next(), undefined);
  proxies[3]?.close();
  await until(() => server.connected === 15, "one to go");
  await new RawProxy().join();
});

test("whoever is not admitted, or cannot be judged in time, is told of no pod", async () => {
  const peers: number[] = [];
  const verdicts = [async () => "not this node's ztunnel", () => new Promise<undefined>(() => {}), async () => "late"];
  const server = startServer({
    snapshot: () => [pod("secret")],
    helloTimeoutMs: PATIENCE_MS,
    admit: ({ pid, uid }) => {
      assert.equal(uid, process.getuid?.());
      peers.push(pid);
      return (verdicts.shift() ?? (async () => undefined))();
    },
  });
  for (let i = 0; i < 3; i++) {
    const stranger = new RawProxy();
    stranger.send(encodeHello());
    assert.equal(await stranger.next(), undefined, "the agent hangs up");
  }
  assert.deepEqual(peers, [process.pid, process.pid, process.pid]);
  const proxy = new RawProxy();
  proxy.send(encodeHello());
  assert.deepEqual(await proxy.next(), { kind: "add", uid: "secret", info: INFO });
  proxy.ack();
  await proxy.next();
  proxy.ack();
  await until(() => server.connected === 1, "the snapshot");
});

test("what a proxy says to each pod of its snapshot is passed on", async () => {
  const announced: (readonly [string, string | undefined])[] = [];
  startServer({ snapshot: () => [pod("a"), pod("b")], onAnnounced: (...one) => announced.push(one) });
  const proxy = new RawProxy();
  proxy.send(encodeHello());
  await proxy.next();
  proxy.ack("no room");
  await proxy.next();
  proxy.ack();
  assert.deepEqual(await proxy.next(), { kind: "snapshot-sent" });
  assert.deepEqual(announced, [
    ["a", "no room"],
    ["b", undefined],
  ]);
});
