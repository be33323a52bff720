import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import { type Log, type LogFields, silentLog } from "@tulle/base";
import type { AdsServerOptions } from "../index.ts";
import { until } from "../scripted-server.fixture.ts";
import { A, B, NODE, quiet, RawClient, type Request, startServer } from "./raw-client.fixture.ts";

test("every type is answered, the known ones in the server's order, an unknown one as empty", async () => {
  const { server, put } = startServer();
  put("x", "1");
  const client = new RawClient(server);
  for (const typeUrl of ["type.test/unknown", B, A]) client.ask({ node: NODE, typeUrl });
  await until(() => client.responses.length === 3);
  const all = client.responses.map(({ typeUrl, resources }) => `${typeUrl} ${resources.length}`).sort();
  assert.deepEqual(all, ["type.test/a 1", "type.test/b 0", "type.test/unknown 0"]);
  assert.equal(new Set(client.responses.map(({ nonce }) => nonce)).size, 3);
  await client.end();
  assert.deepEqual(server.clients(), []);
});

test("when several types have changed, they go out in the server's order", async () => {
  const { server, put } = startServer({ types: [{ typeUrl: A }, { typeUrl: B }], batchWindowMs: 5 });
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: B });
  client.ask({ node: NODE, typeUrl: A });
  await until(() => client.responses.length === 2);
  client.ack(0);
  client.ack(1);
  put("x", "1", B);
  put("x", "1", A);
  await until(() => client.responses.length === 4);
  assert.deepEqual(
    client.responses.slice(2).map(({ typeUrl }) => typeUrl),
    [A, B],
  );
  await client.end();
});

test("changes of one moment go out together, and what is the same as before goes to nobody", async () => {
  const { server, put } = startServer({ batchWindowMs: 5 });
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A });
  await until(() => client.responses.length === 1);
  client.ack(0);
  for (let i = 0; i < 50; i++) put(`w${i}`, "1");
  server.update(A, { removed: ["w0"] });
  await until(() => client.responses.length === 2);
  assert.equal(client.responses[1]?.resources.length, 49);
  client.ack(1);
  put("w1", "1");
  await quiet();
  assert.equal(client.responses.length, 2);
  await client.end();
});

test("the batch window is fixed: a steady stream of changes cannot hold a push back", async () => {
  const { server, put } = startServer({ batchWindowMs: 10 });
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A });
  await until(() => client.responses.length === 1);
  client.ack(0);
  let changes = 0;
  const writer = setInterval(() => put("w", `${changes++}`), 1);
  await until(() => client.responses.length === 2);
  clearInterval(writer);
  assert.ok(changes < 200, `${changes} changes before the first push`);
  await client.end();
});

test("a client that does not acknowledge is sent nothing more, and then only the latest state", async () => {
  const { server, put } = startServer();
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A });
  await until(() => client.responses.length === 1);
  for (let i = 0; i < 20; i++) {
    put("w", `${i}`);
    await delay(2);
  }
  await quiet();
  assert.equal(client.responses.length, 1);
  client.ack(0);
  await until(() => client.responses.length === 2);
  assert.equal(Buffer.from(client.responses[1]?.resources[0]?.resource?.value ?? []).toString(), "19");
  await client.end();
});

test("a stale or invented nonce acknowledges nothing", async () => {
  const { server, put } = startServer();
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A });
  await until(() => client.responses.length === 1);
  client.ask({ typeUrl: A, responseNonce: "invented" });
  put("w", "1");
  await quiet();
  assert.equal(client.responses.length, 1);
  client.ack(0);
  await until(() => client.responses.length === 2);
  client.ack(0);
  put("w", "2");
  await quiet();
  assert.equal(client.responses.length, 2);
  await client.end();
});

test("a refusal is told to the operator and not answered by sending again", async () => {
  const lines: string[] = [];
  const log: Log = {
    ...silentLog,
    warn: (message: string, fields?: LogFields) => void lines.push(`${message} ${JSON.stringify(fields)}`),
  };
  const { server, nacks, put } = startServer({ log });
  put("w", "1");
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A });
  await until(() => client.responses.length === 1);
  client.ack(0, "w: it is bad");
  await until(() => nacks.length === 1);
  assert.deepEqual(nacks[0], { typeUrl: A, nonce: client.responses[0]?.nonce, message: "w: it is bad" });
  assert.match(lines.join(), /w: it is bad/);
  assert.equal(server.clients()[0]?.types[0]?.error, "w: it is bad");
  await quiet();
  assert.equal(client.responses.length, 1);
  put("w", "2");
  await until(() => client.responses.length === 2);
  client.ack(1);
  await until(() => server.clients()[0]?.types[0]?.error === undefined);
  await client.end();
});

test("names are asked for in later requests, on a stream that waits for an acknowledgement too", async () => {
  const { server, put } = startServer();
  put("w1", "1");
  put("w2", "1");
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A, resourceNamesSubscribe: ["*"], resourceNamesUnsubscribe: ["*"] });
  await until(() => client.responses.length === 1);
  client.ask({ typeUrl: A, resourceNamesSubscribe: ["w1"] });
  client.ask({ typeUrl: A, resourceNamesSubscribe: ["nothing"] });
  await until(() => client.responses.length >= 2 && client.names(client.responses.length - 1).endsWith("nothing"));
  const all = client.responses
    .slice(1)
    .map((_, i) => client.names(i + 1))
    .join("; ");
  assert.ok(all.includes("w1") && !all.includes("w2"), all);
  await client.end();
});

test("who may not open a stream learns nothing, and is read nothing from", async () => {
  const lines: string[] = [];
  const log: Log = {
    ...silentLog,
    warn: (message: string, fields?: LogFields) => void lines.push(`${message} ${JSON.stringify(fields)}`),
  };
  const authorize: AdsServerOptions["authorize"] = async ({ node }) =>
    node.id.includes("~z.ns~") ? { ok: true } : { ok: false, reason: "not your node" };
  const broken = () => Promise.reject(new Error("the token service is down"));
  const cases: [string, Partial<AdsServerOptions>, string, Request, Code, string, RegExp][] = [
    [
      "a bad token",
      {},
      "bad",
      { node: NODE, typeUrl: A },
      Code.Unauthenticated,
      "authentication failure",
      /a bad token/,
    ],
    [
      "no verdict",
      { authenticate: broken },
      "good",
      { node: NODE, typeUrl: A },
      Code.Unauthenticated,
      "authentication failure",
      /token service/,
    ],
    [
      "another node",
      { authorize },
      "good",
      { node: { id: "x~1~y.ns~d" }, typeUrl: A },
      Code.PermissionDenied,
      "authorization failure",
      /not your node/,
    ],
    [
      "no verdict on the node",
      { authorize: broken },
      "good",
      { node: NODE, typeUrl: A },
      Code.PermissionDenied,
      "authorization failure",
      /token service/,
    ],
    ["no node", {}, "good", { typeUrl: A }, Code.InvalidArgument, "missing node ID", /^$/],
    ["an empty node", {}, "good", { node: { id: "" }, typeUrl: A }, Code.InvalidArgument, "missing node ID", /^$/],
  ];
  for (const [name, options, token, request, code, message, reason] of cases) {
    lines.length = 0;
    const { server, put } = startServer({ log, ...options });
    put("secret", "1");
    const client = new RawClient(server, { authorization: token });
    client.ask(request);
    await until(() => client.done, name);
    assert.equal(client.error?.code, code, name);
    assert.equal(client.error?.rawMessage, message, name);
    assert.match(lines.join(), reason, name);
    assert.equal(client.responses.length, 0, name);
    client.requests.end();
  }
});

test("a client that never acknowledges is left in the end", async () => {
  const { server } = startServer({ ackTimeoutMs: 40 });
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A });
  await until(() => client.done);
  assert.equal(client.error?.code, Code.DeadlineExceeded);
  assert.deepEqual(server.clients(), []);
});

test("streams and types are bounded", async () => {
  const { server } = startServer({ maxStreams: 2 });
  const clients = [1, 2].map(() => new RawClient(server));
  for (const client of clients) client.ask({ node: NODE, typeUrl: A });
  await until(() => clients.every((client) => client.responses.length === 1));
  const third = new RawClient(server);
  third.ask({ node: NODE, typeUrl: A });
  await until(() => third.done);
  assert.equal(third.error?.code, Code.ResourceExhausted);
  for (let i = 0; i < 40; i++) clients[0]?.ask({ typeUrl: `type.test/${i}` });
  await until(() => clients[0]?.done === true);
  assert.equal(clients[0]?.error?.code, Code.ResourceExhausted);
  await clients[1]?.end();
  await until(() => server.clients().length === 0);
  const fourth = new RawClient(server);
  fourth.ask({ node: NODE, typeUrl: A });
  await until(() => fourth.responses.length === 1, "there is room again");
  await fourth.end();
});

test("closing ends every stream with a reason that makes clients come back", async () => {
  const { server } = startServer();
  const client = new RawClient(server);
  client.ask({ node: NODE, typeUrl: A });
  await until(() => client.responses.length === 1);
  server.close();
  await until(() => client.done);
  assert.equal(client.error?.code, Code.Unavailable);
});

test("a type that is not served cannot be updated", () => {
  const { server } = startServer();
  assert.throws(() => server.update("type.test/other", {}), /is not served/);
});
