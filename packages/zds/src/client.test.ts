import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { silentLog } from "@tulle/base";
import {
  NativeBuffer,
  type NetNamespace,
  openDescriptors,
  SeqpacketListener,
  type SeqpacketSocket,
} from "@tulle/linux";
import { TestZdsAgent } from "@tulle/testkit";
import { ZdsClient } from "./client.ts";
import { decodeAck, encodeRequest, type PodInfo } from "./protocol.ts";
import { StateManager } from "./state-manager.ts";

const INFO: PodInfo = { name: "p", namespace: "ns", serviceAccount: "sa" };
const OWN = "/proc/self/ns/net";
let before: readonly string[] = [];

beforeEach(() => {
  before = openDescriptors();
});

afterEach(() => {
  assert.deepEqual(openDescriptors(), before, "every descriptor was closed");
});

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.fail(`waited 5 s for ${what}`);
}

function startProxy(path: string) {
  const running = new Set<string>();
  let held: Promise<void> | undefined;
  const state = new StateManager<NetNamespace>({
    log: silentLog,
    runner: {
      start: async (uid) => {
        await held;
        running.add(uid);
      },
      stop: async (uid) => void running.delete(uid),
    },
  });
  const connections: boolean[] = [];
  const client = new ZdsClient({ path, state, log: silentLog, onConnected: (is) => connections.push(is) });
  const run = client.run();
  const hold = (until: Promise<void>) => {
    held = until;
  };
  const end = async () => {
    client.close();
    await run;
    state.close();
  };
  return { running, state, connections, hold, [Symbol.asyncDispose]: end };
}

test("an agent that restarts finds the proxies as they were, and nothing is started twice", async () => {
  using agent = new TestZdsAgent();
  agent.put("a", INFO, OWN);
  await using proxy = startProxy(agent.path);
  await until(() => agent.connected === 1, "the snapshot");
  await agent.add("b", INFO, OWN);
  for (let i = 0; i < 3; i++) {
    agent.restart();
    await until(() => agent.connected === 1, "the proxy to come back");
  }
  assert.deepEqual([...proxy.running], ["a", "b"]);
  assert.equal(proxy.connections.filter((is) => is).length, 4);
  await agent.del("a");
  assert.deepEqual([...proxy.running], ["b"]);
});

test("an agent that is not there yet is waited for", async () => {
  const agent = new TestZdsAgent();
  agent.close();
  await using proxy = startProxy(agent.path);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(proxy.connections, []);
});

test("a new pod is served within a few milliseconds: nothing polls", async () => {
  using agent = new TestZdsAgent();
  await using proxy = startProxy(agent.path);
  await until(() => agent.connected === 1, "the snapshot");
  let turns = 0;
  const count = setInterval(() => turns++, 20);
  for (let i = 0; i < 50; i++) await agent.add(`${i}`, INFO, OWN);
  clearInterval(count);
  assert.equal(proxy.running.size, 50);
  // Polling every 50 ms would cost 125; this many are a busy machine's.
  assert.ok(turns < 120, `${turns} periods of 20 ms for 50 pods`);
});

test("an agent that floods without waiting for answers is refused, and its namespaces are closed", async () => {
  using agent = new TestZdsAgent();
  const pod = agent.put("held", INFO, OWN);
  const path = `${agent.path}.raw`;
  using listener = SeqpacketListener.listen(path);
  await using proxy = startProxy(path);
  const go = Promise.withResolvers<void>();
  proxy.hold(go.promise);
  let socket: SeqpacketSocket | undefined;
  await until(() => {
    const accepted = listener.accept();
    if (typeof accepted === "number") return false;
    socket = accepted;
    return true;
  }, "the proxy to connect");
  assert.ok(socket !== undefined && pod.namespace !== undefined);
  const handle = { fd: pod.namespace.descriptor, closed: false } as never;
  for (let i = 0; i < 8; i++) {
    const bytes = encodeRequest({ kind: "add", uid: `${i}`, info: INFO });
    socket.send(NativeBuffer.from(bytes), 0, bytes.length, [handle]);
  }
  const buffer = NativeBuffer.alloc(1024);
  const answers: (string | undefined)[] = [];
  await until(() => {
    const length = socket?.receive(buffer, 0, 1024) ?? 0;
    if (length > 0) answers.push(decodeAck(Uint8Array.from(buffer.bytes.subarray(0, length)))?.error);
    return answers.includes("failure to read message : more messages than answers");
  }, "the refusal");
  go.resolve();
  socket.close();
  await until(() => proxy.connections.at(-1) === false, "the connection to end");
});
