import assert from "node:assert/strict";
import { test } from "node:test";
import { MeshError } from "@tulle/base";
import type { IncomingTunnel, ServerConnection, ServerConnectionHandler } from "../src/index.ts";
import { acceptHbone } from "../src/index.ts";
import { App } from "./app.ts";
import { KEY, Mesh } from "./mesh.ts";
import { PLAIN_PEER, PlainSession } from "./plain-session.ts";

test("a tunnel says what was asked for, by whom and from where", () => {
  const tunnels: IncomingTunnel[] = [];
  const mesh = new Mesh({ onTunnel: (tunnel) => void tunnels.push(tunnel) });
  mesh.pool.open(
    KEY,
    {
      authority: "[fd00::1]:8080",
      headers: [
        ["baggage", "k8s.namespace.name=a"],
        ["baggage", "k8s.pod.name=b"],
        ["forwarded", 'for="10.0.0.1:1234"'],
      ],
    },
    { onEstablished() {}, onFailed() {} },
  );
  mesh.until("the tunnel", () => tunnels.length === 1);
  const tunnel = tunnels[0]!;
  assert.equal(tunnel.method, "CONNECT");
  assert.equal(tunnel.authority, "[fd00::1]:8080");
  assert.deepEqual(tunnel.headers("baggage"), ["k8s.namespace.name=a", "k8s.pod.name=b"]);
  assert.deepEqual(tunnel.headers("forwarded"), ['for="10.0.0.1:1234"']);
  assert.deepEqual(tunnel.headers("x-none"), []);
  assert.equal(tunnel.peer, PLAIN_PEER);
  assert.equal(tunnel.remote.ip, "10.0.0.2");
  assert.deepEqual(tunnel.local, { ip: "10.0.0.3", port: 15_008 });
});

test("headers of the answer arrive at the client", () => {
  const mesh = new Mesh({ onTunnel: (tunnel) => mesh.acceptTunnel(tunnel, [["baggage", "service.name=server"]]) });
  mesh.pair();
  assert.equal(mesh.established[0]?.status, 200);
  assert.deepEqual(mesh.established[0]?.headers("baggage"), ["service.name=server"]);
  assert.equal(mesh.established[0]?.peer, PLAIN_PEER);
});

test("a rejected tunnel frees its place and leaves the connection as it was", () => {
  const mesh = new Mesh({ onTunnel: (tunnel) => tunnel.reject(400), server: { maxTunnels: 2 } });
  const clients = Array.from({ length: 20 }, () => mesh.connect());
  mesh.until("all are refused", () => clients.every((client) => client.error === -104));
  assert.deepEqual(new Set(mesh.failures.map(({ status }) => status)), new Set([400]));
  assert.deepEqual(
    [...mesh.servers.values()].filter((end) => end !== "open"),
    [],
  );
});

test("accepting a tunnel whose client is gone resets the application and ends normally", () => {
  const tunnels: IncomingTunnel[] = [];
  const mesh = new Mesh({ onTunnel: (tunnel) => void tunnels.push(tunnel) });
  const client = mesh.connect();
  mesh.until("the tunnel", () => tunnels.length === 1);
  mesh.pool.close(new MeshError("gone", { code: "GONE", side: "upstream" }));
  mesh.until("the client is reset", () => client.error === -104);
  mesh.pass(100);
  mesh.acceptTunnel(tunnels[0]!);
  mesh.until("the relay has ended", () => mesh.inboundEnds.length === 1);
  assert.equal(mesh.inboundEnds[0]?.error, undefined);
  mesh.until("the application is reset", () => mesh.serverApps[0]?.error === -104);
});

/** Serves one connection that a test speaks on by hand, and says how it ended. */
function serveRaw(deadline?: number) {
  const mesh = new Mesh();
  const end = {
    error: undefined as MeshError | undefined,
    closed: false,
    server: undefined as ServerConnection | undefined,
  };
  const handler: ServerConnectionHandler = {
    onTunnel() {},
    onClosed: (_server, error) => {
      end.closed = true;
      end.error = error;
    },
  };
  mesh.inbound.listen(
    { address: { ip: "0.0.0.0", port: 15_010 } },
    {
      onAccept: (connection) => {
        end.server = acceptHbone(
          {
            reactor: mesh.inbound,
            connection,
            session: new PlainSession(),
            memory: mesh.inboundMemory,
            ...(deadline === undefined ? {} : { authenticationDeadlineMs: deadline }),
          },
          handler,
        );
      },
      onAcceptError() {},
    },
  );
  const app = new App((h) => mesh.client.connect({ address: { ip: "10.0.0.3", port: 15_010 } }, h));
  return { mesh, end, app };
}

const HELLO = "\x01";
const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

test("whoever does not shake hands is closed after 10 s", () => {
  const { mesh, end } = serveRaw();
  mesh.until("the end", () => end.closed);
  assert.ok(mesh.network.now >= 10_000 && mesh.network.now < 10_100);
  assert.equal(end.error?.code, "TLS_FAILED");
  mesh.pass(3000);
  assert.deepEqual([mesh.leftovers.inboundConnections, mesh.leftovers.inboundTimers], [0, 0]);
});

test("whoever shakes hands but asks for nothing is closed after 10 s, with or without SETTINGS", () => {
  for (const words of [HELLO, HELLO + PREFACE]) {
    const { mesh, end, app } = serveRaw();
    app.send(words);
    mesh.until("the end", () => end.closed);
    assert.ok(mesh.network.now >= 10_000 && mesh.network.now < 10_100);
    assert.equal(end.error?.code, "HTTP2_FAILED");
    mesh.pass(3000);
    assert.deepEqual([mesh.leftovers.inboundConnections, mesh.leftovers.inboundTimers], [0, 0]);
  }
});

test("time that passed before is taken off the deadline by its owner", () => {
  const { mesh, end } = serveRaw(2000);
  mesh.until("the end", () => end.closed);
  assert.ok(mesh.network.now < 2100);
});

test("a peer that speaks something else than HTTP/2 is told so and closed", () => {
  const { mesh, end, app } = serveRaw();
  app.send(`${HELLO}GET / HTTP/1.1\r\n\r\n`);
  mesh.until("the end", () => end.closed);
  assert.match(end.error?.message ?? "", /^http2 handshake failed: .*preface/);
  mesh.until("EOF", () => app.eof);
  assert.ok(app.received.includes("preface"), "GOAWAY explains");
});

test("a peer that leaves during the handshake is an io error; one that leaves after it, is not", () => {
  const during = serveRaw();
  during.mesh.until("connected", () => during.app.connected === 0);
  during.app.reset();
  during.mesh.until("the end", () => during.end.closed);
  assert.match(during.end.error?.message ?? "", /^io error: /);

  const after = serveRaw();
  after.app.send(HELLO + PREFACE);
  after.mesh.until("the handshake", () => after.end.server?.peer !== undefined);
  after.app.end();
  after.mesh.until("the end", () => after.end.closed);
  assert.equal(after.end.error, undefined);
});

test("five hundred tunnels that nobody reads from do not stall the others, and cost bounded memory", () => {
  const mesh = new Mesh({
    pool: { maxStreamsPerConnection: 501 },
    server: { maxTunnels: 501 },
    faults: { capacity: 32_768 },
  });
  const stuck = Array.from({ length: 500 }, () => mesh.connect());
  mesh.until("all tunnels", () => mesh.serverApps.length === 500 && mesh.outboundRelays.length === 500);
  for (const app of mesh.serverApps) app.stopReading();
  for (const client of stuck) client.send(Buffer.alloc(200_000));
  mesh.pass(2000);
  assert.equal(mesh.servers.size, 1, "all on one connection");
  const held = mesh.inboundMemory.leased;
  assert.ok(held > 4 * 1_048_576, `${held} bytes wait for applications`);
  assert.ok(held <= 17 * 1_048_576, `${held} bytes are held`);

  const { client, server } = mesh.pair();
  server.countOnly = true;
  client.send(Buffer.alloc(20_000_000));
  client.end();
  mesh.until("the live tunnel's bytes", () => server.bytes === 20_000_000 && server.eof);
  assert.equal(mesh.servers.size, 1);
  assert.ok(mesh.inboundMemory.leased <= 17 * 1_048_576);

  for (const app of mesh.serverApps) {
    app.countOnly = true;
    app.startReading();
  }
  mesh.until("the stuck ones go on", () => mesh.serverApps.slice(0, 500).every((app) => app.bytes === 200_000));
  assert.equal(mesh.inboundMemory.leased, 0);
});
