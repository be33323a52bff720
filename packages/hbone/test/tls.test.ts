import assert from "node:assert/strict";
import { once } from "node:events";
import * as http2 from "node:http2";
import * as net from "node:net";
import { after, before, describe, test } from "node:test";
import * as tls from "node:tls";
import { formatIdentity, type Identity, type MeshError } from "@tulle/base";
import { type Connection, EpollReactor } from "@tulle/reactor";
import { MemoryCa } from "@tulle/testkit";
import { liveTlsObjects, TlsContext } from "@tulle/tls";
import {
  acceptHbone,
  createTunnelPool,
  type IncomingTunnel,
  type PoolKey,
  type Relay,
  type TunnelPool,
} from "../src/index.ts";
import { drive } from "./drive.ts";

const identity = (serviceAccount: string): Identity => ({
  trustDomain: "cluster.local",
  namespace: "default",
  serviceAccount,
});
const CLIENT = identity("client");
const SERVER = identity("server");
const NOTHING = { onConnected() {}, onReadable() {}, onWritable() {} };

let ca: MemoryCa;
let clientContext: TlsContext;
let serverContext: TlsContext;

before(async () => {
  ca = await MemoryCa.create();
  clientContext = TlsContext.create((await ca.fetch(CLIENT)).material());
  serverContext = TlsContext.create((await ca.fetch(SERVER)).material());
});

after(() => {
  clientContext.close();
  serverContext.close();
});

/** An inbound proxy on a reactor of its own, on loopback. */
class Inbound {
  readonly reactor = new EpollReactor();
  readonly stop = drive(this.reactor);
  readonly relays: Relay[] = [];
  readonly ends: (MeshError | undefined)[] = [];
  readonly closed: (MeshError | undefined)[] = [];
  readonly tunnels: IncomingTunnel[] = [];
  readonly listener = this.reactor.listen(
    { address: { ip: "127.0.0.1", port: 0 } },
    {
      onAccept: (connection) =>
        void acceptHbone(
          {
            reactor: this.reactor,
            connection,
            session: serverContext.server({ kind: "trust-domain", trustDomain: "cluster.local" }),
          },
          { onTunnel: (tunnel) => this.#onTunnel(tunnel), onClosed: (_c, error) => void this.closed.push(error) },
        ),
      onAcceptError() {},
    },
  );

  #onTunnel(tunnel: IncomingTunnel): void {
    this.tunnels.push(tunnel);
    const port = Number(/:(\d+)$/.exec(tunnel.authority ?? "")?.[1]);
    if (tunnel.method !== "CONNECT" || !port) return tunnel.reject(400);
    this.reactor.connect(
      { address: { ip: "127.0.0.1", port } },
      {
        ...NOTHING,
        onConnected: (connection, error) => {
          if (error !== 0) return tunnel.reject(503);
          this.relays.push(tunnel.accept([["baggage", "x=y"]], connection, (_r, e) => void this.ends.push(e)));
        },
      },
    );
  }
}

/** An outbound proxy: whatever connects to `door` is tunnelled to `target` through the proxy at `via`. */
class Outbound {
  readonly reactor = new EpollReactor();
  readonly stop = drive(this.reactor);
  readonly pool: TunnelPool;
  readonly failures: MeshError[] = [];
  readonly ends: (MeshError | undefined)[] = [];
  readonly door: net.AddressInfo | { ip: string; port: number };

  constructor(via: number, target: number, expected: Identity = SERVER, context = clientContext) {
    this.pool = createTunnelPool({
      reactor: this.reactor,
      session: (key) => context.client({ kind: "identities", uris: key.destinations }),
    });
    const key: PoolKey = {
      source: formatIdentity(CLIENT),
      destinations: [formatIdentity(expected)],
      address: { ip: "127.0.0.1", port: via },
      sourceIp: "127.0.0.1",
    };
    const accept = (connection: Connection): void => {
      connection.setHandler(NOTHING);
      this.pool.open(
        key,
        { authority: `127.0.0.1:${target}`, headers: [["baggage", "k8s.pod.name=client"]] },
        {
          onEstablished: (tunnel) => void tunnel.relay(connection, (_r, error) => void this.ends.push(error)),
          onFailed: (_tunnel, error) => {
            this.failures.push(error);
            connection.reset();
          },
        },
      );
    };
    this.door = this.reactor.listen(
      { address: { ip: "127.0.0.1", port: 0 } },
      { onAccept: accept, onAcceptError() {} },
    ).address;
  }
}

async function listen(server: net.Server | http2.Http2SecureServer): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as net.AddressInfo).port;
}

async function echoServer(): Promise<{ server: net.Server; port: number }> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  return { server, port: await listen(server) };
}

async function echoed(port: number, body: Buffer): Promise<Buffer> {
  const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.end(body);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function until(done: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!done()) {
    if (Date.now() > deadline) throw new Error("it did not happen within 10 s");
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe("two of our proxies over real TLS", () => {
  test("big and small connections, many at a time, and nothing native is left", async () => {
    const live = JSON.stringify(liveTlsObjects());
    const echo = await echoServer();
    const inbound = new Inbound();
    const outbound = new Outbound(inbound.listener.address.port, echo.port);
    try {
      const bodies = Array.from({ length: 40 }, (_, i) => Buffer.alloc(i % 4 === 0 ? 3_000_000 : i * 100, `${i} `));
      const answers = await Promise.all(bodies.map((body) => echoed(outbound.door.port, body)));
      for (const [i, answer] of answers.entries()) assert.ok(answer.equals(bodies[i]!), `body ${i}`);
      await until(() => outbound.ends.length === 40 && inbound.ends.length === 40);
      assert.deepEqual(new Set([...outbound.ends, ...inbound.ends]), new Set([undefined]));
      assert.deepEqual(outbound.pool.size, { connections: 1, tunnels: 0 });
      assert.deepEqual(inbound.tunnels[0]?.peer.identity, CLIENT);
      assert.deepEqual(inbound.tunnels[0]?.headers("baggage"), ["k8s.pod.name=client"]);
      outbound.pool.drain();
      await until(() => inbound.closed.length === 1 && outbound.reactor.open.connections === 0);
      assert.deepEqual(inbound.closed, [undefined]);
      assert.equal(outbound.reactor.faults + inbound.reactor.faults, 0);
    } finally {
      outbound.stop();
      inbound.stop();
      echo.server.close();
    }
    assert.equal(JSON.stringify(liveTlsObjects()), live);
  });

  test("a server with another identity is refused, and both sides say so", async () => {
    const inbound = new Inbound();
    const outbound = new Outbound(inbound.listener.address.port, 1, identity("other"));
    try {
      const socket = net.connect(outbound.door.port, "127.0.0.1");
      const [error] = (await once(socket, "error")) as [NodeJS.ErrnoException];
      assert.equal(error.code, "ECONNRESET");
      assert.equal(outbound.failures[0]?.code, "IDENTITY_MISMATCH");
      assert.match(outbound.failures[0].message, /other/);
      await until(() => inbound.closed.length === 1);
      assert.equal(inbound.closed[0]?.code, "TLS_FAILED");
    } finally {
      outbound.stop();
      inbound.stop();
    }
  });

  test("a client that the server does not trust is told by the server's alert", async () => {
    const material = (await (await MemoryCa.create()).fetch(CLIENT)).material();
    const context = TlsContext.create({ ...material, rootsPem: (await ca.fetch(CLIENT)).rootsPem });
    const inbound = new Inbound();
    const outbound = new Outbound(inbound.listener.address.port, 1, SERVER, context);
    try {
      const socket = net.connect(outbound.door.port, "127.0.0.1");
      await once(socket, "error");
      assert.equal(outbound.failures[0]?.code, "TLS_FAILED");
      assert.match(outbound.failures[0].message, /^tls error: .*(unknown_ca|after the handshake)/);
    } finally {
      outbound.stop();
      inbound.stop();
      context.close();
    }
  });
});

describe("foreign peers", () => {
  test("node:http2 over node:tls as an HBONE client", async () => {
    const echo = await echoServer();
    const inbound = new Inbound();
    const certificate = await ca.fetch(CLIENT);
    const session = http2.connect(`https://127.0.0.1:${inbound.listener.address.port}`, {
      cert: certificate.certificateChainPem,
      key: certificate.exportPrivateKeyPem(),
      ca: certificate.rootsPem,
      checkServerIdentity: () => undefined,
      ALPNProtocols: ["h2"],
    } as http2.SecureClientSessionOptions);
    try {
      const body = Buffer.alloc(2_000_000, "foreign ");
      const stream = session.request({ ":method": "CONNECT", ":authority": `127.0.0.1:${echo.port}` });
      const [headers] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
      assert.equal(headers[":status"], 200);
      assert.equal(headers["baggage"], "x=y");
      stream.end(body);
      const chunks: Buffer[] = [];
      for await (const chunk of stream) chunks.push(chunk as Buffer);
      assert.ok(Buffer.concat(chunks).equals(body));

      const bad = session.request({ ":method": "GET", ":path": "/" });
      bad.on("error", () => {});
      const [refused] = (await once(bad, "response")) as [http2.IncomingHttpHeaders];
      assert.equal(refused[":status"], 400);

      const cut = session.request({ ":method": "CONNECT", ":authority": `127.0.0.1:${echo.port}` });
      cut.on("error", () => {});
      await once(cut, "response");
      cut.close(http2.constants.NGHTTP2_CANCEL);
      await until(() => inbound.ends.length === 2);
      assert.deepEqual(inbound.ends, [undefined, undefined]);
    } finally {
      session.close();
      inbound.stop();
      echo.server.close();
    }
  });

  test("node:http2 over node:tls as an HBONE server", async () => {
    const certificate = await ca.fetch(SERVER);
    const foreign = http2.createSecureServer({
      cert: certificate.certificateChainPem,
      key: certificate.exportPrivateKeyPem(),
      ca: certificate.rootsPem,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: "TLSv1.3",
      settings: { maxConcurrentStreams: 100 },
    });
    const seen: string[] = [];
    foreign.on("stream", (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => {
      const socket = stream.session?.socket as tls.TLSSocket | undefined;
      seen.push(`${headers[":method"]} ${headers[":authority"]} ${socket?.getPeerX509Certificate()?.subjectAltName}`);
      stream.on("error", () => {});
      if (headers[":authority"] === "127.0.0.1:7") stream.respond({ ":status": 403 }, { endStream: true });
      else {
        stream.respond({ ":status": 200 });
        stream.pipe(stream);
      }
    });
    const via = await listen(foreign);
    const outbound = new Outbound(via, 4711);
    const refused = new Outbound(via, 7);
    try {
      const body = Buffer.alloc(2_000_000, "foreign ");
      assert.ok((await echoed(outbound.door.port, body)).equals(body));
      assert.deepEqual(seen, [`CONNECT 127.0.0.1:4711 URI:${formatIdentity(CLIENT)}`]);
      await once(net.connect(refused.door.port, "127.0.0.1"), "error");
      assert.equal(refused.failures[0]?.message, "http status: 403");
    } finally {
      outbound.stop();
      refused.stop();
      foreign.close();
    }
  });
});
