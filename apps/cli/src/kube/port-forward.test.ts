import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { text } from "node:stream/consumers";
import { type WebSocket, WebSocketServer } from "ws";
import { CliError } from "../cli-error.ts";
import { portForward } from "./port-forward.ts";

/** Against a websocket server that speaks the API server's side. */
async function apiServer(accept: (socket: WebSocket, path: string) => void, refuse?: { status: number; body: string }) {
  const server: Server = createServer();
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: (protocols) => [...protocols][0] ?? false });
  server.on("upgrade", (request, socket, head) => {
    if (refuse !== undefined) {
      socket.end(`HTTP/1.1 ${refuse.status} No\r\ncontent-length: ${refuse.body.length}\r\n\r\n${refuse.body}`);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (websocket) => accept(websocket, request.url ?? ""));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const connection = {
    server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    source: "test",
    namespace: "default",
    tls: {},
    authorization: () => Promise.resolve("Bearer t"),
  };
  return { connection, [Symbol.dispose]: () => void server.close() };
}

const POD = { namespace: "shop", name: "till" };
const port = (channel: number) => Buffer.from([channel, 0x98, 0x3a]);

test("bytes go both ways on the channel of data", async () => {
  using server = await apiServer((socket, path) => {
    assert.equal(path, "/api/v1/namespaces/shop/pods/till/portforward?ports=15000");
    socket.send(port(0));
    socket.send(port(1));
    socket.on("message", (message: Buffer) => {
      assert.equal(message[0], 0);
      socket.send(Buffer.concat([Buffer.of(0), message.subarray(1), Buffer.from("!")]));
      socket.close();
    });
  });
  const stream = await portForward(server.connection, POD, 15000);
  stream.write("hello");
  assert.equal(await text(stream), "hello!");
});

test("the port number may come in pieces, and with the first bytes", async () => {
  using server = await apiServer((socket) => {
    socket.send(Buffer.of(0, 0x98));
    socket.send(Buffer.concat([Buffer.of(0, 0x3a), Buffer.from("first")]));
    socket.send(Buffer.concat([Buffer.of(0), Buffer.from(" second")]));
    socket.close();
  });
  assert.equal(await text(await portForward(server.connection, POD, 15000)), "first second");
});

test("an error of the pod's side ends the stream with its text", async () => {
  using server = await apiServer((socket) => {
    socket.send(port(0));
    socket.send(port(1));
    socket.send(Buffer.concat([Buffer.of(1), Buffer.from("connection refused")]));
  });
  const stream = await portForward(server.connection, POD, 15000);
  await assert.rejects(
    text(stream),
    (error) => error instanceof CliError && /pod shop\/till, port 15000: connection refused/.test(error.message),
  );
});

test("a refusal of the API server is told with its words", async () => {
  const body = JSON.stringify({ kind: "Status", message: 'pods "till" is forbidden' });
  using server = await apiServer(() => {}, { status: 403, body });
  await assert.rejects(portForward(server.connection, POD, 15000), (error) => {
    assert.ok(error instanceof CliError);
    assert.match(error.message, /403 pods "till" is forbidden/);
    assert.match(error.next, /pods\/portforward/);
    return true;
  });
});

test("credentials that are not accepted are renewed once", async () => {
  using server = await apiServer(() => {}, { status: 401, body: "{}" });
  const asked: boolean[] = [];
  const authorization = (renew: boolean) => {
    asked.push(renew);
    return Promise.resolve("Bearer t");
  };
  await assert.rejects(portForward({ ...server.connection, authorization }, POD, 15000), /401/);
  assert.deepEqual(asked, [false, true]);
});

test("an API server that is not there is an error that says so", async () => {
  const connection = {
    server: "http://127.0.0.1:1",
    source: "test",
    namespace: "d",
    tls: {},
    authorization: () => Promise.resolve(undefined),
  };
  await assert.rejects(
    portForward(connection, POD, 15000),
    (error) => error instanceof CliError && /ECONNREFUSED/.test(error.message),
  );
});
