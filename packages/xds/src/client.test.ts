import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import type { ads } from "@tulle/api";
import { silentLog } from "@tulle/base";
import { FakeTime } from "@tulle/testkit";
import {
  proxyNode,
  type Rejection,
  type TerminationReason,
  XdsClient,
  type XdsTypeHandler,
  type XdsUpdate,
} from "./index.ts";
import { ScriptedServer, until } from "./scripted-server.fixture.ts";

const A = "type.test/a";
const B = "type.test/b";
const NODE = proxyNode({
  podName: "ztunnel-x",
  podNamespace: "istio-system",
  nodeName: "n1",
  metadata: { CLUSTER_ID: "c" },
});

/** Keeps what it is given; refuses resources whose content says so. */
class Handler implements XdsTypeHandler {
  readonly typeUrl: string;
  readonly mode: "wildcard" | "on-demand";
  readonly held = new Map<string, string>();
  readonly updates: XdsUpdate[] = [];
  crash: string | undefined;

  constructor(typeUrl: string, mode: "wildcard" | "on-demand" = "wildcard") {
    this.typeUrl = typeUrl;
    this.mode = mode;
  }

  apply(update: XdsUpdate): Rejection[] {
    if (this.crash !== undefined) throw new Error(this.crash);
    this.updates.push(update);
    const rejections: Rejection[] = [];
    for (const { name, bytes } of update.resources) {
      const text = Buffer.from(bytes).toString();
      if (text.startsWith("bad")) rejections.push({ name, reason: `it is ${text}` });
      else this.held.set(name, text);
    }
    for (const name of update.removed) this.held.delete(name);
    return rejections;
  }
}

function resource(name: string, text: string, aliases: string[] = []) {
  const value = Uint8Array.from(Buffer.from(text));
  return { name, version: `v-${text}`, aliases, resource: { typeUrl: A, value } };
}

function setUp(...types: Handler[]) {
  const server = new ScriptedServer();
  const time = new FakeTime();
  const terminations: TerminationReason[] = [];
  const messages: [string, number][] = [];
  const connected: boolean[] = [];
  const client = new XdsClient({
    open: server.connect,
    node: NODE,
    types,
    log: silentLog,
    sleep: time.sleep,
    random: () => 0.5,
    metrics: {
      onTermination: (reason) => terminations.push(reason),
      onMessage: (...message) => messages.push(message),
    },
    onConnected: (is) => connected.push(is),
  });
  const stop = new AbortController();
  const running = client.run(stop.signal);
  const end = async () => {
    stop.abort();
    await running;
    assert.equal(server.open, 0, "every connection was closed");
    assert.equal(time.sleeping, 0);
  };
  return { server, time, client, terminations, messages, connected, [Symbol.asyncDispose]: end };
}

/** The requests without what is empty. */
function shown(request: ads.DeltaDiscoveryRequest | undefined): Record<string, unknown> {
  if (request === undefined) return {};
  const {
    node,
    typeUrl,
    resourceNamesSubscribe,
    resourceNamesUnsubscribe,
    initialResourceVersions,
    responseNonce,
    errorDetail,
  } = request;
  const fields = {
    node: node?.id,
    typeUrl,
    subscribe: resourceNamesSubscribe.join(),
    unsubscribe: resourceNamesUnsubscribe.join(),
    held: Object.entries(initialResourceVersions).join(";"),
    nonce: responseNonce,
    error: errorDetail === undefined ? undefined : `${errorDetail.code} ${errorDetail.message}`,
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== ""));
}

test("the node says who we are, as Istio's control plane wants to hear it", () => {
  assert.equal(NODE.id, "ztunnel~1.1.1.1~ztunnel-x.istio-system~istio-system.svc.cluster.local");
  assert.deepEqual(NODE.metadata, {
    NAME: "ztunnel-x",
    NAMESPACE: "istio-system",
    INSTANCE_IPS: "1.1.1.1",
    NODE_NAME: "n1",
    CLUSTER_ID: "c",
  });
});

test("the first requests name the node and everything, in order; acknowledgements only their response", async () => {
  await using rig = setUp(new Handler(A), new Handler(B));
  await until(() => rig.server.streams[0]?.requests.length === 2);
  assert.deepEqual(rig.server.latest.requests.map(shown), [
    { node: NODE.id, typeUrl: A },
    { node: NODE.id, typeUrl: B },
  ]);
  assert.deepEqual(rig.server.latest.requests[0]?.node?.metadata, NODE.metadata);
  rig.server.latest.respond({ typeUrl: A, nonce: "n1", resources: [resource("x", "one")] });
  await until(() => rig.server.latest.requests.length === 3);
  assert.deepEqual(shown(rig.server.latest.requests[2]), { typeUrl: A, nonce: "n1" });
  assert.deepEqual(rig.messages, [[A, 3]]);
});

test("caches_are_warm_before_unblocked: ready after an accepted answer for every wildcard type", async () => {
  const b = new Handler(B);
  await using rig = setUp(new Handler(A), b);
  await until(() => rig.server.streams.length === 1);
  rig.server.latest.respond({ typeUrl: A, nonce: "1" });
  rig.server.latest.respond({ typeUrl: B, nonce: "2", resources: [resource("x", "bad")] });
  await until(() => rig.server.latest.requests.length === 4);
  assert.equal(rig.client.ready, false, "a refusal does not count");
  rig.server.latest.respond({ typeUrl: B, nonce: "3" });
  await rig.client.whenReady();
  assert.equal(rig.client.ready, true);
});

test("an on-demand type is not waited for, and without types there is nothing to wait for", async () => {
  await using rig = setUp(new Handler(A, "on-demand"));
  assert.equal(rig.client.ready, true);
});

test("good resources of a response are applied, bad ones are refused by name with code 0", async () => {
  const a = new Handler(A);
  await using rig = setUp(a);
  await until(() => rig.server.streams.length === 1);
  const resources = [resource("good", "g"), resource("x", "bad1"), resource("also", "g2"), resource("y", "bad2")];
  rig.server.latest.respond({ typeUrl: A, nonce: "n", resources, removedResources: ["gone"] });
  await until(() => rig.server.latest.requests.length === 2);
  assert.deepEqual(shown(rig.server.latest.requests[1]), {
    typeUrl: A,
    nonce: "n",
    error: "0 x: it is bad1; y: it is bad2",
  });
  assert.deepEqual(
    [...a.held],
    [
      ["good", "g"],
      ["also", "g2"],
    ],
  );
  assert.equal(rig.client.held().get(A), 2);
});

test("a handler that fails refuses the whole response, and the stream goes on", async () => {
  const a = new Handler(A);
  await using rig = setUp(a);
  await until(() => rig.server.streams.length === 1);
  a.crash = "broken";
  rig.server.latest.respond({ typeUrl: A, nonce: "1", resources: [resource("x", "1")], removedResources: ["y"] });
  await until(() => rig.server.latest.requests.length === 2);
  assert.equal(shown(rig.server.latest.requests[1])["error"], "0 x: broken; y: broken");
  a.crash = undefined;
  rig.server.latest.respond({ typeUrl: A, nonce: "2", resources: [resource("x", "1")] });
  await until(() => rig.server.latest.requests.length === 3);
  assert.deepEqual(shown(rig.server.latest.requests[2]), { typeUrl: A, nonce: "2" });
});

test("resources of a type that nobody asked for are acknowledged and dropped", async () => {
  await using rig = setUp(new Handler(A));
  await until(() => rig.server.streams.length === 1);
  rig.server.latest.respond({ typeUrl: "type.test/other", nonce: "n", resources: [resource("x", "1")] });
  await until(() => rig.server.latest.requests.length === 2);
  assert.deepEqual(shown(rig.server.latest.requests[1]), { typeUrl: "type.test/other", nonce: "n" });
});

test("reconnect_echoes_retained_versions: what was accepted is named again, what was refused or removed is not", async () => {
  const a = new Handler(A);
  await using rig = setUp(a);
  await until(() => rig.server.streams.length === 1);
  const resources = [resource("kept", "1"), resource("changed", "1"), resource("gone", "1"), resource("no", "bad")];
  rig.server.latest.respond({ typeUrl: A, nonce: "1", resources });
  rig.server.latest.respond({
    typeUrl: A,
    nonce: "2",
    resources: [resource("changed", "2")],
    removedResources: ["gone"],
  });
  rig.server.latest.respond({ typeUrl: A, nonce: "3", resources: [resource("changed", "bad3")] });
  await until(() => rig.server.latest.requests.length === 4);
  rig.server.latest.end();
  await until(() => rig.server.streams.length === 2 && rig.server.latest.requests.length === 1);
  assert.deepEqual(shown(rig.server.latest.requests[0]), { node: NODE.id, typeUrl: A, held: "kept,v-1;changed,v-2" });
  assert.deepEqual([...a.held.keys()], ["kept", "changed"], "the state is kept meanwhile");
  assert.deepEqual(rig.terminations, ["Complete"]);
});

test("a lost connection is made anew with growing waits, and counted by its reason", async () => {
  await using rig = setUp(new Handler(A));
  await until(() => rig.server.streams.length === 1);
  rig.server.latest.respond({ typeUrl: A, nonce: "1" });
  await until(() => rig.server.latest.requests.length === 2);
  rig.server.refuse = new Error("cannot read the roots");
  rig.server.latest.end(new ConnectError("internal", Code.Internal));
  const waits: (number | undefined)[] = [];
  for (let i = 0; i < 4; i++) {
    await until(() => rig.time.sleeping === 1);
    waits.push(rig.time.untilNext);
    await rig.time.advance(rig.time.untilNext ?? 0);
  }
  assert.deepEqual(waits, [20, 40, 80, 160]);
  rig.server.refuse = undefined;
  await rig.time.advance(320);
  await until(() => rig.server.streams.length === 2);
  assert.deepEqual(rig.terminations.slice(0, 4), ["Error", "ConnectionError", "ConnectionError", "ConnectionError"]);
  rig.server.latest.respond({ typeUrl: A, nonce: "1" });
  await until(() => rig.server.latest.requests.length === 2);
  rig.server.latest.end(new ConnectError("transport is closing", Code.Unavailable));
  await until(() => rig.time.sleeping === 1);
  assert.equal(rig.time.untilNext, 10);
  assert.equal(rig.terminations.at(-1), "Reconnect");
});

test("on_demand_handling: a name is asked for once, and whoever asked is told after the answer was applied", async () => {
  const a = new Handler(A, "on-demand");
  await using rig = setUp(a);
  await until(() => rig.server.streams[0]?.requests.length === 1);
  assert.deepEqual(shown(rig.server.latest.requests[0]), {
    node: NODE.id,
    typeUrl: A,
    subscribe: "*",
    unsubscribe: "*",
  });
  const seen: string[] = [];
  const ask = (name: string) =>
    rig.client.demand(A, name).then(() => seen.push(`${name}=${a.held.get("uid-1") ?? "nothing"}`));
  const asked = [ask("net/10.0.0.1"), ask("net/10.0.0.1"), ask("net/10.0.0.2")];
  await until(() => rig.server.latest.requests.length === 2);
  assert.deepEqual(shown(rig.server.latest.requests[1]), { typeUrl: A, subscribe: "net/10.0.0.1,net/10.0.0.2" });
  rig.server.latest.respond({ typeUrl: A, nonce: "1", resources: [resource("uid-1", "one", ["net/10.0.0.1"])] });
  await until(() => seen.length === 2);
  rig.server.latest.respond({ typeUrl: A, nonce: "2", removedResources: ["net/10.0.0.2"] });
  await Promise.all(asked);
  assert.deepEqual(seen, ["net/10.0.0.1=one", "net/10.0.0.1=one", "net/10.0.0.2=one"]);
  await rig.client.demand(A, "net/10.0.0.1");
  assert.equal(rig.server.latest.requests.filter((request) => request.resourceNamesSubscribe.length > 0).length, 2);
});

test("on_demand_cache_coherency: what is asked for without a stream goes with the next one's first request", async () => {
  await using rig = setUp(new Handler(A, "on-demand"));
  await until(() => rig.server.streams.length === 1);
  void rig.client.demand(A, "asked/before");
  await until(() => rig.server.latest.requests.length === 2);
  rig.server.latest.respond({ typeUrl: A, nonce: "1", resources: [resource("found", "1", ["asked/before"])] });
  await until(() => rig.server.latest.requests.length === 3);
  rig.server.refuse = new Error("away");
  rig.server.latest.end(new ConnectError("x", Code.Internal));
  await until(() => rig.time.sleeping === 1);
  const answer = rig.client.demand(A, "asked/while-away");
  rig.server.refuse = undefined;
  await rig.time.advance(20);
  await until(() => rig.server.streams[1]?.requests.length === 1);
  assert.deepEqual(shown(rig.server.latest.requests[0]), {
    node: NODE.id,
    typeUrl: A,
    subscribe: "*",
    unsubscribe: "*",
    held: "asked/before,;asked/while-away,;found,v-1",
  });
  rig.server.latest.respond({ typeUrl: A, nonce: "1", removedResources: ["asked/while-away"] });
  await answer;
});

test("add_abort_remove: what was removed while we were away is removed at return", async () => {
  const a = new Handler(A);
  await using rig = setUp(a);
  await until(() => rig.server.streams.length === 1);
  rig.server.latest.respond({ typeUrl: A, nonce: "1", resources: [resource("x", "1")] });
  await until(() => a.held.size === 1);
  rig.server.latest.end(new ConnectError("aborted", Code.Aborted));
  await until(() => rig.time.sleeping === 1);
  await rig.time.advance(20);
  await until(() => rig.server.streams.length === 2);
  rig.server.latest.respond({ typeUrl: A, nonce: "1", removedResources: ["x"] });
  await until(() => a.held.size === 0);
  assert.equal(rig.client.held().get(A), 0);
});

test("only an on-demand type can be asked for a name", async () => {
  await using rig = setUp(new Handler(A));
  assert.throws(() => rig.client.demand(A, "x"), /not subscribed to on demand/);
  assert.throws(() => rig.client.demand(B, "x"), /not subscribed to on demand/);
});
