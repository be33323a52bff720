import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { silentLog } from "@tulle/base";
import {
  type Descriptor,
  NativeBuffer,
  NetNamespace,
  openDescriptors,
  SeqpacketListener,
  SeqpacketSocket,
} from "@tulle/linux";
import { ZdsClient } from "./client.ts";
import {
  decodeAck,
  decodeRequest,
  encodeHello,
  encodeRequest,
  isHello,
  type PodInfo,
  type ZdsRequest,
} from "./protocol.ts";
import { type AgentPod, ZdsServer } from "./server.ts";
import { type PodNamespace, type ProxyRunner, StateManager, ZdsProtocolError } from "./state-manager.ts";

const INFO: PodInfo = { name: "p", namespace: "ns", serviceAccount: "sa" };
let folder = "";
let path = "";
let before: readonly string[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "zds-"));
  path = join(folder, "ztunnel.sock");
  before = openDescriptors();
});

afterEach(() => {
  rmSync(folder, { recursive: true });
  assert.deepEqual(openDescriptors(), before, "every descriptor was closed");
});

/** Counts what runs, and fails where it is told to. */
class FakeRunner implements ProxyRunner<PodNamespace> {
  readonly running = new Map<string, PodInfo>();
  readonly log: string[] = [];
  failing = new Set<string>();

  async start(uid: string, info: PodInfo, namespace: PodNamespace & { readonly closed?: boolean }): Promise<void> {
    await Promise.resolve();
    this.log.push(`start ${uid}`);
    assert.ok(namespace.closed !== true);
    assert.ok(!this.running.has(uid), `${uid} is started once at a time`);
    if (this.failing.has(uid)) throw new Error("no listener for you");
    this.running.set(uid, info);
  }

  async stop(uid: string): Promise<void> {
    await Promise.resolve();
    this.log.push(`stop ${uid}`);
    this.running.delete(uid);
  }
}

function ownNamespace(): NetNamespace {
  return NetNamespace.open("/proc/self/ns/net");
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`waited 5 s for ${what}`);
}

/** The proxy's end with a fake runner, and how its run ended. */
function startClient(retryMs = 50) {
  const runner = new FakeRunner();
  const state = new StateManager<NetNamespace>({ runner, log: silentLog, retryMs });
  const client = new ZdsClient({ path, state, log: silentLog });
  let failure: unknown;
  const run = client.run().catch((error: unknown) => {
    failure = error;
  });
  return {
    runner,
    state,
    failure: () => failure,
    async stop() {
      client.close();
      await run;
      state.close();
    },
  };
}

/** An agent whose every byte the test decides. */
async function rawAgent() {
  const listener = SeqpacketListener.listen(path);
  const buffer = NativeBuffer.alloc(4096);
  let socket: SeqpacketSocket | undefined;
  const receive = async (): Promise<Uint8Array> => {
    let length = -1;
    await until(() => (length = socket?.receive(buffer, 0, 4096) ?? -1) >= 0, "a packet from the proxy");
    return Uint8Array.from(buffer.bytes.subarray(0, length));
  };
  return {
    async accept(): Promise<void> {
      await until(() => {
        const accepted = listener.accept();
        if (typeof accepted === "number") return false;
        socket = accepted;
        return true;
      }, "the proxy to connect");
      assert.ok(isHello(await receive()));
    },
    async ask(bytes: Uint8Array, descriptors: readonly Descriptor[] = []): Promise<string> {
      socket?.send(NativeBuffer.from(bytes), 0, bytes.length, descriptors);
      return decodeAck(await receive())?.error ?? "ok";
    },
    async sawEnd(): Promise<boolean> {
      return (await receive()).length === 0;
    },
    close() {
      socket?.close();
      listener.close();
    },
  };
}

test("messages survive the way there and back", () => {
  const requests: ZdsRequest[] = [
    { kind: "add", uid: "u1", info: INFO },
    { kind: "add", uid: "u1", info: undefined },
    { kind: "keep", uid: "u2" },
    { kind: "del", uid: "u3" },
    { kind: "snapshot-sent" },
  ];
  for (const request of requests) assert.deepEqual(decodeRequest(encodeRequest(request)), request);
  assert.equal(decodeRequest(Uint8Array.of(0xff, 0xff)), undefined);
  assert.equal(decodeRequest(new Uint8Array(0)), undefined);
  assert.ok(isHello(encodeHello()));
  assert.ok(!isHello(new Uint8Array(0)));
});

test("a proxy gets the snapshot, then every change, and answers each", async () => {
  const namespace = ownNamespace();
  const pod = (uid: string): AgentPod => ({ uid, info: INFO, namespace });
  const connected: number[] = [];
  const server = new ZdsServer({
    path,
    log: silentLog,
    snapshot: () => [pod("a"), pod("b")],
    onConnected: (count) => connected.push(count),
  });
  const proxy = startClient();
  await until(() => server.connected === 1, "the snapshot");
  assert.deepEqual([...proxy.runner.running.keys()], ["a", "b"]);
  assert.ok(proxy.state.ready);
  await server.add(pod("c"));
  assert.deepEqual(proxy.runner.running.get("c"), INFO);
  await server.add(pod("c"));
  assert.equal(proxy.runner.log.filter((line) => line === "start c").length, 1, "the same pod again is no news");
  await server.del("a");
  assert.ok(!proxy.runner.running.has("a"));
  await server.del("never-seen");
  await proxy.stop();
  await until(() => server.connected === 0, "the server to notice");
  await assert.rejects(server.add(pod("d")), /no ztunnel is connected/);
  assert.deepEqual(connected, [1, 0]);
  server.close();
  namespace.close();
});

test("a pod that cannot be started is refused, stays pending, and is tried again", async () => {
  const namespace = ownNamespace();
  const server = new ZdsServer({ path, log: silentLog, snapshot: () => [] });
  const proxy = startClient();
  proxy.runner.failing.add("bad");
  await until(() => server.connected === 1, "the snapshot");
  await assert.rejects(
    server.add({ uid: "bad", info: INFO, namespace }),
    /failure to start proxy : no listener for you/,
  );
  assert.equal(proxy.state.pending, 1);
  assert.ok(!proxy.state.ready);
  assert.equal(proxy.state.pods()[0]?.state, "Pending");
  proxy.runner.failing.clear();
  await until(() => proxy.state.ready, "the retry");
  assert.ok(proxy.runner.running.has("bad"));
  await proxy.stop();
  server.close();
  namespace.close();
});

test("what a new snapshot does not mention ends, what it keeps stays", async () => {
  const namespace = ownNamespace();
  const first = new ZdsServer({
    path,
    log: silentLog,
    snapshot: () => ["kept", "gone"].map((uid) => ({ uid, info: INFO, namespace })),
  });
  const proxy = startClient();
  await until(() => first.connected === 1, "the first snapshot");
  first.close();
  await until(() => !proxy.state.ready, "the proxy to notice");
  assert.equal(proxy.runner.running.size, 2, "proxies go on without the agent");
  const second = new ZdsServer({
    path,
    log: silentLog,
    snapshot: () => [{ uid: "kept", info: INFO, namespace: undefined }],
  });
  await until(() => second.connected === 1, "the second snapshot");
  assert.deepEqual([...proxy.runner.running.keys()], ["kept"]);
  await proxy.stop();
  second.close();
  namespace.close();
});

test("a pod whose namespace changed is stopped and started anew", async () => {
  const runner = new FakeRunner();
  const state = new StateManager({
    runner,
    log: silentLog,
  });
  const make = (key: string) => ({
    key,
    closed: false,
    close() {
      this.closed = true;
    },
  });
  state.connected();
  const [one, same, other] = [make("1"), make("1"), make("2")];
  await state.add("u", INFO, one);
  await state.add("u", INFO, same);
  assert.ok(same.closed && !one.closed, "the second handle of the same namespace is not needed");
  await state.add("u", INFO, other);
  assert.ok(one.closed && !other.closed);
  assert.deepEqual(runner.log, ["start u", "stop u", "start u"]);
  await state.snapshotSent();
  await assert.rejects(state.snapshotSent(), ZdsProtocolError);
  assert.throws(() => state.keep("u"), ZdsProtocolError);
  state.close();
  assert.ok(other.closed);
});

test("before the snapshot's end a deletion only takes the announcement back", async () => {
  const runner = new FakeRunner();
  const state = new StateManager({ runner, log: silentLog });
  state.connected();
  await state.add("u", INFO, ownNamespace());
  await state.del("u");
  assert.ok(runner.running.has("u"));
  await state.snapshotSent();
  assert.ok(!runner.running.has("u"));
  state.close();
});

test("wrong descriptors and unreadable messages are refused and leak nothing", async () => {
  const namespace = ownNamespace();
  const fd = descriptorFor(namespace);
  const cases: readonly (readonly [string, Uint8Array, readonly Descriptor[], RegExp])[] = [
    ["an add without a namespace", encodeRequest({ kind: "add", uid: "u", info: INFO }), [], /failure to read message/],
    ["an add with two", encodeRequest({ kind: "add", uid: "u", info: INFO }), [fd, fd], /failure to read message/],
    ["a del with one", encodeRequest({ kind: "del", uid: "u" }), [fd], /failure to read message/],
    ["garbage", Uint8Array.of(0xff, 0xff, 0xff), [], /failure to read message/],
    [
      "a message that is too long",
      encodeRequest({ kind: "del", uid: "u".repeat(1100) }),
      [],
      /failure to read message/,
    ],
  ];
  for (const [what, bytes, descriptors, expected] of cases) {
    const agent = await rawAgent();
    const proxy = startClient();
    await agent.accept();
    assert.match(await agent.ask(bytes, descriptors), expected, what);
    assert.ok(await agent.sawEnd(), `${what}: the connection is made anew`);
    assert.equal(proxy.runner.running.size, 0);
    assert.equal(proxy.failure(), undefined);
    await proxy.stop();
    agent.close();
  }
  namespace.close();
});

test("a message that may not come ends the proxy", async () => {
  const cases: readonly (readonly ZdsRequest[])[] = [
    [{ kind: "snapshot-sent" }, { kind: "snapshot-sent" }],
    [{ kind: "snapshot-sent" }, { kind: "keep", uid: "u" }],
  ];
  for (const [first, second] of cases) {
    const agent = await rawAgent();
    const proxy = startClient();
    await agent.accept();
    assert.equal(await agent.ask(encodeRequest(first as ZdsRequest)), "ok");
    assert.match(await agent.ask(encodeRequest(second as ZdsRequest)), /^failure to process message : /);
    await until(() => proxy.failure() !== undefined, "the proxy to give up");
    assert.ok(proxy.failure() instanceof ZdsProtocolError);
    await proxy.stop();
    agent.close();
  }
});

test("an add without workload_info ends the proxy", async () => {
  const namespace = ownNamespace();
  const agent = await rawAgent();
  const proxy = startClient();
  await agent.accept();
  const bytes = encodeRequest({ kind: "add", uid: "u", info: undefined });
  assert.match(await agent.ask(bytes, [descriptorFor(namespace)]), /workload_info is missing/);
  await until(() => proxy.failure() !== undefined, "the proxy to give up");
  await proxy.stop();
  agent.close();
  namespace.close();
});

test("a stranger who does not say hello is not told of any pod", async () => {
  const namespace = ownNamespace();
  const server = new ZdsServer({
    path,
    log: silentLog,
    snapshot: () => [{ uid: "secret", info: INFO, namespace }],
  });
  const stranger = SeqpacketSocket.connect(path);
  const buffer = NativeBuffer.from(Uint8Array.of(1, 2, 3));
  stranger.send(buffer, 0, 3);
  const received = NativeBuffer.alloc(64);
  await until(() => stranger.receive(received, 0, 64) === 0, "the server to hang up");
  assert.equal(server.connected, 0);
  stranger.close();
  server.close();
  namespace.close();
});

/** The descriptor of a namespace that the test holds open. */
function descriptorFor(namespace: NetNamespace): Descriptor {
  return { fd: namespace.descriptor, closed: false } as unknown as Descriptor;
}
