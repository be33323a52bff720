import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import { create, toBinary } from "@bufbuild/protobuf";
import { ADDRESS_TYPE, wds, WORKLOAD_TYPE } from "@tulle/api";
import { ADDRESSES, addressResource, AdsServer, type Push, WORKLOADS } from "../index.ts";
import { until } from "../scripted-server.fixture.ts";
import { A, B, NODE, quiet, RawClient, startServer, text } from "./raw-client.fixture.ts";

/** Names of the nodes that do not hold the state of now. */
function behind(server: AdsServer, position: number, name?: string): number {
  return server.behind(A, position, name).length;
}

test("a client holds a state when it has acknowledged it, or a later one, or needs nothing of it", async () => {
  const { server, put } = startServer({ batchWindowMs: 0 });
  put("x", "1");
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A });
  await until(() => client.responses.length === 1);
  assert.equal(behind(server, server.cache(A).sequence), 1, "nothing was acknowledged yet");
  client.ack(0);
  await until(() => behind(server, server.cache(A).sequence) === 0);
  put("x", "2");
  const second = server.cache(A).sequence;
  assert.equal(behind(server, second), 1, "the change is on its way");
  await until(() => client.responses.length === 2);
  put("y", "1");
  const third = server.cache(A).sequence;
  client.ack(1);
  await until(() => behind(server, second) === 0);
  assert.equal(behind(server, third), 1, "an older state does not count");
  await until(() => client.responses.length === 3);
  client.ack(2);
  await until(() => behind(server, third) === 0);
  put("y", "1");
  assert.equal(behind(server, server.cache(A).sequence), 0, "the same again is no change");
  await client.end();
});

test("a client on demand holds what it never asked for", async () => {
  const { server, put } = startServer({ batchWindowMs: 0 });
  put("x", "1");
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A, resourceNamesSubscribe: ["x"] });
  await until(() => client.responses.length === 1);
  client.ack(0);
  put("other", "1");
  await until(() => behind(server, server.cache(A).sequence) === 0);
  put("x", "2");
  assert.equal(behind(server, server.cache(A).sequence), 1);
  await client.end();
});

test("an observer is told how long a change waited for the client, and what became of it", async () => {
  const pushes: Push[] = [];
  const accepted: boolean[] = [];
  const { put, server } = startServer({
    batchWindowMs: 0,
    observer: { onPushed: (push) => pushes.push(push), onAck: (_, ack) => accepted.push(ack.accepted) },
  });
  put("x", "1");
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A });
  await until(() => pushes.length === 1);
  put("x", "2");
  const changed = performance.now();
  await until(() => performance.now() - changed > 30);
  assert.equal(pushes.length, 1, "the client has not acknowledged the first");
  client.ack(0);
  await until(() => pushes.length === 2);
  client.ack(1, "no");
  await until(() => accepted.length === 2);
  assert.deepEqual(accepted, [true, false]);
  assert.ok((pushes[1]?.queuedMs ?? 0) >= 20, "from the change on, not from the acknowledgement");
  assert.ok(pushes.every(({ typeUrl, tookMs }) => typeUrl === A && tookMs >= 0));
  await client.end();
});

test("a refusal counts for what it does not name", async () => {
  const { server, put } = startServer({ batchWindowMs: 0 });
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A });
  await until(() => client.responses.length === 1);
  client.ack(0);
  server.update(A, { changed: ["good", "bad"].map((name) => ({ name, bytes: text("1") })) });
  const position = server.cache(A).sequence;
  await until(() => client.responses.length === 2);
  client.ack(1, "bad: it is too long");
  await until(() => behind(server, position, "good") === 0);
  assert.equal(behind(server, position, "bad"), 1);
  put("good", "2");
  await until(() => client.responses.length === 3);
  client.ack(2);
  await until(() => behind(server, server.cache(A).sequence) === 0);
  assert.equal(behind(server, position, "bad"), 1, "what came after does not mend it");
  put("bad", "2");
  await until(() => client.responses.length === 4);
  client.ack(3);
  await until(() => behind(server, server.cache(A).sequence, "bad") === 0);
  await client.end();
});

test("a client that has connected and not asked for the type may hold anything", async () => {
  const { server, put } = startServer({ batchWindowMs: 0 });
  put("x", "1");
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: B });
  await until(() => client.responses.length === 1);
  client.ack(0);
  await quiet();
  assert.equal(behind(server, server.cache(A).sequence), 1);
  await client.end();
  await until(() => behind(server, server.cache(A).sequence) === 0);
});

test("who may not have everything of a type is left when it asks for it, then or later", async () => {
  const narrow = { authorize: () => Promise.resolve({ ok: true, wildcard: false } as const) };
  const cases = [{}, { resourceNamesSubscribe: ["*"] }, { resourceNamesSubscribe: ["x", "*"] }];
  for (const request of cases) {
    const { server, put } = startServer(narrow);
    put("x", "1");
    const client = new RawClient(server);
    client.ask({ node: NODE, typeUrl: A, ...request });
    await until(() => client.done);
    assert.equal(client.error?.code, Code.PermissionDenied);
    assert.equal(client.responses.length, 0);
  }
  const { server, put } = startServer(narrow);
  put("x", "1");
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A, resourceNamesSubscribe: ["x"] });
  await until(() => client.responses.length === 1);
  client.ask({ typeUrl: A, resourceNamesSubscribe: ["*"] });
  await until(() => client.done);
  assert.equal(client.error?.code, Code.PermissionDenied);
  const always = new RawClient(server);
  always.ask({ node: NODE, typeUrl: B, resourceNamesSubscribe: ["x"] });
  await until(() => always.done);
  assert.equal(always.error?.code, Code.PermissionDenied);
});

test("a stream waits for a server that is not ready, and ends in the ordinary way when it is old", async () => {
  const ready = Promise.withResolvers<void>();
  const { server } = startServer({ ready: () => ready.promise, maxStreamAgeMs: 30, random: () => 0.5 });
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A });
  await quiet();
  assert.equal(client.responses.length, 0);
  ready.resolve();
  await until(() => client.responses.length === 1);
  await until(() => client.done);
  assert.equal(client.error, undefined);
});

test("a client that is disconnected must show anew who it is, the others stay; a closed server takes nobody", async () => {
  const { server } = startServer();
  const clients = ["a", "b"].map((pod) => {
    const client = new RawClient(server);
    client.ask({ node: { id: `ztunnel~1.1.1.1~${pod}.ns~ns.svc.cluster.local` }, typeUrl: A });
    return client;
  });
  const [first, second] = clients;
  await until(() => clients.every(({ responses }) => responses.length === 1));
  server.disconnect(({ node }) => node.id.includes("~a.ns~"), "it is gone");
  await until(() => first?.done === true);
  assert.equal(first?.error?.code, Code.Unauthenticated);
  assert.equal(server.clients().length, 1);
  assert.equal(second?.error, undefined);
  server.close();
  await until(() => server.clients().length === 0);
  const late = new RawClient(server);
  late.ask({ node: NODE, typeUrl: A });
  await until(() => late.done);
  assert.equal(late.error?.code, Code.Unavailable);
});

test("workloads alone are the addresses without services, as messages of their own type", async () => {
  const { server } = startServer({ types: [ADDRESSES, WORKLOADS], batchWindowMs: 0 });
  const put = (type: wds.Address["type"]) =>
    server.update(ADDRESS_TYPE, { changed: [addressResource(create(wds.AddressSchema, { type }))] });
  const workload = create(wds.WorkloadSchema, { uid: "c//Pod/ns/a", name: "a", node: "n1" });
  put({ case: "workload", value: workload });
  put({ case: "service", value: create(wds.ServiceSchema, { namespace: "ns", hostname: "svc.ns" }) });
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: WORKLOAD_TYPE });
  await until(() => client.responses.length === 1);
  assert.equal(client.names(0), "c//Pod/ns/a | ");
  const resource = client.responses[0]?.resources[0]?.resource;
  assert.equal(resource?.typeUrl, WORKLOAD_TYPE);
  assert.deepEqual(Buffer.from(resource?.value ?? []), Buffer.from(toBinary(wds.WorkloadSchema, workload)));
  client.ack(0);
  server.update(ADDRESS_TYPE, { removed: ["ns/svc.ns", "c//Pod/ns/a"] });
  await until(() => client.responses.length === 2);
  assert.equal(client.names(1), " | c//Pod/ns/a");
  await client.end();
  const one = new RawClient(server);
  put({ case: "workload", value: workload });
  one.ask({ node: NODE, typeUrl: WORKLOAD_TYPE, resourceNamesSubscribe: ["c//Pod/ns/a", "ns/svc.ns"] });
  await until(() => one.responses.length === 1);
  assert.equal(one.names(0), "c//Pod/ns/a | ns/svc.ns");
  await one.end();
});
