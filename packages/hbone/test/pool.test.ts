import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MeshError } from "@tulle/base";
import { NativeBuffer } from "@tulle/linux";
import type { PoolKey } from "../src/index.ts";
import { App } from "./app.ts";
import { KEY, Mesh, SERVER } from "./mesh.ts";
import { HELLO, PlainSession } from "./plain-session.ts";

const REASON = new MeshError("gone", { code: "GONE", side: "upstream" });
const REQUEST = { authority: `${SERVER.ip}:${SERVER.port}`, headers: [] };

/** Opens a tunnel that nobody relays; says how it went. */
function open(mesh: Mesh, key: PoolKey = KEY) {
  const result = {
    established: false,
    error: undefined as MeshError | undefined,
    status: undefined as number | undefined,
  };
  const tunnel = mesh.pool.open(key, REQUEST, {
    onEstablished: () => {
      result.established = true;
    },
    onFailed: (failed, error) => {
      result.error = error;
      result.status = failed.status;
    },
  });
  return { result, tunnel };
}

/** Opens several and waits for all of them. */
function openAll(mesh: Mesh, count: number, key: PoolKey = KEY) {
  const all = Array.from({ length: count }, () => open(mesh, key));
  mesh.until("all tunnels", () => all.every(({ result }) => result.established || result.error !== undefined));
  return all;
}

describe("reuse", () => {
  test("connections_reused: tunnels one after the other, and at the same time, share one connection", () => {
    const mesh = new Mesh();
    for (let i = 0; i < 5; i++) {
      const { client, server } = mesh.pair();
      client.end();
      server.end();
      mesh.until("the end", () => client.eof && server.eof);
    }
    openAll(mesh, 50);
    assert.equal(mesh.servers.size, 1);
    assert.deepEqual(mesh.pool.size, { connections: 1, tunnels: 50 });
  });

  test("unique_keys_have_unique_connections: each part of the key counts", () => {
    const mesh = new Mesh();
    mesh.network.namespace("inbound2", ["10.0.0.5"]);
    const keys: PoolKey[] = [
      KEY,
      { ...KEY, source: "spiffe://cluster.local/ns/default/sa/other" },
      { ...KEY, destinations: ["spiffe://cluster.local/ns/default/sa/other"] },
      { ...KEY, destinations: [...KEY.destinations, "spiffe://cluster.local/ns/default/sa/other"] },
      { ...KEY, sourceIp: "10.0.0.9" },
    ];
    for (const key of keys) openAll(mesh, 2, key);
    assert.equal(mesh.servers.size, keys.length);
  });

  test("the order of acceptable identities does not matter", () => {
    const mesh = new Mesh();
    openAll(mesh, 1, { ...KEY, destinations: ["spiffe://a", "spiffe://b"] });
    openAll(mesh, 1, { ...KEY, destinations: ["spiffe://b", "spiffe://a"] });
    assert.equal(mesh.servers.size, 1);
  });

  test("connection_limits: a full connection is joined by another, and is used again once it has room", () => {
    const mesh = new Mesh({ pool: { maxStreamsPerConnection: 2 } });
    const [first] = openAll(mesh, 2);
    openAll(mesh, 1);
    assert.deepEqual(mesh.pool.size, { connections: 2, tunnels: 3 });
    first!.tunnel.cancel();
    openAll(mesh, 1);
    assert.deepEqual(mesh.pool.size, { connections: 2, tunnels: 3 });
  });

  test("a server that allows fewer tunnels is asked for no more", () => {
    const mesh = new Mesh({ server: { maxTunnels: 3 } });
    const all = openAll(mesh, 10);
    assert.ok(all.every(({ result }) => result.established));
    assert.deepEqual(mesh.pool.size, { connections: 4, tunnels: 10 });
  });

  test("one attempt to connect at a time; whoever asks meanwhile waits for it", () => {
    const mesh = new Mesh({ pool: { maxStreamsPerConnection: 10 } });
    const all = Array.from({ length: 35 }, () => open(mesh));
    assert.equal(mesh.outbound.open.connections, 1);
    mesh.until("all tunnels", () => all.every(({ result }) => result.established));
    assert.deepEqual(mesh.pool.size, { connections: 4, tunnels: 35 });
  });

  test("a connection that nobody needs any more when it is ready is not kept", () => {
    const mesh = new Mesh({ pool: { maxStreamsPerConnection: 2 } });
    const [first] = openAll(mesh, 2);
    const late = open(mesh);
    assert.equal(mesh.pool.size.connections, 2);
    first!.tunnel.cancel();
    mesh.until("the tunnel", () => late.result.established);
    mesh.pass(3000);
    assert.deepEqual(mesh.pool.size, { connections: 1, tunnels: 2 });
  });

  test("read_buffering: what the server sends at once is there when the relay begins", () => {
    const mesh = new Mesh();
    const tunnel = mesh.pool.open(KEY, REQUEST, { onEstablished() {}, onFailed() {} });
    mesh.until("the server application", () => mesh.serverApps.length === 1);
    mesh.serverApps[0]!.send("hello first");
    mesh.serverApps[0]!.end();
    mesh.pass(100);
    const listener = mesh.outbound.listen(
      { address: { ip: "0.0.0.0", port: 9000 } },
      { onAccept: (connection) => void tunnel.relay(connection, () => {}), onAcceptError() {} },
    );
    const relayed = new App((handler) =>
      mesh.client.connect({ address: { ip: "10.0.0.2", port: listener.address.port } }, handler),
    );
    mesh.until("the words", () => relayed.eof);
    assert.equal(relayed.received, "hello first");
  });
});

describe("end of connections", () => {
  test("server_goaway: the connection takes no more tunnels, those it has go on", () => {
    const mesh = new Mesh();
    const [before] = openAll(mesh, 1);
    [...mesh.servers.keys()][0]!.drain();
    mesh.pass(50);
    const [after] = openAll(mesh, 1);
    assert.equal(before!.result.error, undefined);
    assert.ok(after!.result.established);
    assert.equal(mesh.servers.size, 2);
  });

  test("idle_eviction: an unused connection is closed after a while, and the next tunnel makes a new one", () => {
    const mesh = new Mesh({ pool: { unusedReleaseMs: 60_000 } });
    openAll(mesh, 1)[0]!.tunnel.cancel();
    mesh.pass(50_000);
    assert.equal(mesh.pool.size.connections, 1);
    mesh.pass(30_000);
    assert.equal(mesh.pool.size.connections, 0);
    mesh.pass(3000);
    assert.deepEqual(mesh.leftovers, {
      outboundConnections: 0,
      inboundConnections: 0,
      outboundTimers: 0,
      inboundTimers: 0,
      leased: 0,
      faults: 0,
    });
    assert.ok(openAll(mesh, 1)[0]!.result.established);
  });

  test("idle_eviction_with_persistent: a connection with a tunnel stays, however quiet it is", () => {
    const mesh = new Mesh({ pool: { unusedReleaseMs: 60_000 } });
    const { client, server } = mesh.pair();
    mesh.pass(600_000);
    client.send("still there?");
    mesh.until("it arrives", () => server.received === "still there?");
    assert.equal(mesh.servers.size, 1);
  });

  test("a connection that is too old takes no more tunnels, and ends with its last one", () => {
    const mesh = new Mesh({ pool: { maxAgeMs: 100_000 } });
    const [old] = openAll(mesh, 1);
    // Between two looks at the connections' age, which come every 30 s.
    mesh.pass(110_000);
    openAll(mesh, 1);
    assert.equal(mesh.servers.size, 2);
    assert.equal(mesh.pool.size.connections, 2);
    mesh.pass(15_000);
    assert.equal(old!.result.error, undefined);
    old!.tunnel.cancel();
    mesh.pass(3000);
    assert.equal(mesh.pool.size.connections, 1);
  });

  test("dropAddress ends the connections to this address at once, and no others", () => {
    const mesh = new Mesh();
    const { client } = mesh.pair();
    mesh.pool.dropAddress("10.0.0.99", REASON);
    mesh.pass(10);
    assert.equal(client.error, undefined);
    mesh.pool.dropAddress(KEY.address.ip, REASON);
    assert.deepEqual(mesh.pool.size, { connections: 0, tunnels: 0 });
    assert.equal(mesh.outboundEnds[0]?.error, REASON);
    mesh.until("the client is reset", () => client.error === -104);
    assert.ok(openAll(mesh, 1)[0]!.result.established);
    assert.equal(mesh.servers.size, 2);
  });

  test("drain: open tunnels go on, those who were let in before still get one, and the connection ends with its last tunnel", () => {
    const mesh = new Mesh();
    const { client, server } = mesh.pair();
    mesh.pool.drain();
    const late = openAll(mesh, 1)[0]!;
    assert.ok(late.result.established);
    late.tunnel.cancel();
    mesh.pass(10);
    client.send("still here");
    mesh.until("it arrives", () => server.received === "still here");
    client.end();
    server.end();
    mesh.until("the connection has ended", () => mesh.pool.size.connections === 0);
    assert.equal(mesh.outboundEnds[0]?.error, undefined);
  });

  test("drain while connecting: those who wait get their tunnels, and nothing stays when they are over", () => {
    const mesh = new Mesh();
    const waiting = [open(mesh), open(mesh)];
    mesh.pool.drain();
    mesh.until("both are open", () => waiting.every(({ result }) => result.established));
    for (const { tunnel } of waiting) tunnel.cancel();
    mesh.until("the connection has ended", () => mesh.pool.size.connections === 0);
    mesh.pass(3000);
    assert.equal(mesh.leftovers.outboundTimers, 0);
  });

  test("drain while connecting for somebody who gives up: the connection is not kept", () => {
    const mesh = new Mesh();
    const { tunnel } = open(mesh);
    mesh.pool.drain();
    tunnel.cancel();
    mesh.until("the connection has ended", () => mesh.pool.size.connections === 0);
  });

  test("drain ends connections that nobody uses at once", () => {
    const mesh = new Mesh();
    openAll(mesh, 1)[0]!.tunnel.cancel();
    mesh.pass(10);
    assert.equal(mesh.pool.size.connections, 1);
    mesh.pool.drain();
    mesh.until("the connection has ended", () => mesh.pool.size.connections === 0);
  });

  test("close ends everything with the given error", () => {
    const mesh = new Mesh();
    const { client } = mesh.pair();
    const waiting = open(mesh, { ...KEY, sourceIp: "10.0.0.9" });
    mesh.pool.close(REASON);
    mesh.until("the client is reset", () => client.error === -104);
    assert.equal(mesh.outboundEnds[0]?.error, REASON);
    assert.equal(waiting.result.error, REASON);
    const late = open(mesh);
    mesh.pass(10);
    assert.equal(late.result.error?.code, "POOL_CLOSED");
    mesh.pass(3000);
    assert.deepEqual([mesh.leftovers.outboundConnections, mesh.leftovers.outboundTimers], [0, 0]);
  });

  test("a dead peer is noticed within 20 s even when no tunnel is open, so that the next one gets a living connection", () => {
    const mesh = new Mesh();
    openAll(mesh, 1)[0]!.tunnel.cancel();
    mesh.network.vanish(mesh.inboundHost);
    mesh.pass(20_000);
    assert.equal(mesh.pool.size.connections, 0);
  });
});

describe("failures", () => {
  const failing: readonly {
    name: string;
    key?: PoolKey;
    mesh?: ConstructorParameters<typeof Mesh>[0];
    code: string;
    text: RegExp;
  }[] = [
    {
      name: "nobody listens",
      key: { ...KEY, address: { ip: "10.0.0.3", port: 9 } },
      code: "CONNECT_FAILED",
      text: /^io error: .*refused/i,
    },
    {
      name: "nobody answers",
      key: { ...KEY, address: { ip: "10.9.9.9", port: 15_008 } },
      code: "CONNECT_TIMEOUT",
      text: /^connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: /,
    },
    {
      name: "we have no certificate",
      mesh: { pool: { session: () => undefined } },
      code: "TLS_FAILED",
      text: /^tls error: .*certificate/,
    },
    {
      name: "making a session throws",
      mesh: {
        clientSession: () => {
          throw new Error("bad key");
        },
      },
      code: "TLS_FAILED",
      text: /^tls error: bad key$/,
    },
    {
      name: "the handshake fails",
      mesh: { clientSession: () => new PlainSession(new Error("who are you?")) },
      code: "TLS_FAILED",
      text: /^tls error: who are you\?$/,
    },
    {
      name: "the server is somebody else",
      mesh: {
        clientSession: () =>
          new PlainSession(
            new MeshError("identity verification error", { code: "IDENTITY_MISMATCH", side: "upstream" }),
          ),
      },
      code: "IDENTITY_MISMATCH",
      text: /identity verification error/,
    },
    {
      name: "the application is denied",
      mesh: { onTunnel: (tunnel) => tunnel.reject(401) },
      code: "HTTP_STATUS",
      text: /^http status: 401$/,
    },
    {
      name: "the application is not there",
      mesh: { onTunnel: (tunnel) => tunnel.reject(503) },
      code: "HTTP_STATUS",
      text: /^http status: 503$/,
    },
  ];
  for (const { name, key, mesh: options, code, text } of failing) {
    test(`${name}: ${code}`, () => {
      const mesh = new Mesh(options);
      const [first] = openAll(mesh, 3, key);
      assert.equal(first!.result.error?.code, code);
      assert.match(first!.result.error?.message ?? "", text);
      if (code === "HTTP_STATUS")
        assert.equal(first!.result.status, Number(/\d+/.exec(first!.result.error.message)?.[0]));
    });
  }

  test("a server that accepts TCP but never shakes hands is given up after 10 s", () => {
    const mesh = new Mesh();
    mesh.inbound.listen(
      { address: { ip: "0.0.0.0", port: 15_009 } },
      { onAccept: (connection) => void App.on(connection), onAcceptError() {} },
    );
    const { result } = openAll(mesh, 1, { ...KEY, address: { ip: "10.0.0.3", port: 15_009 } })[0]!;
    assert.equal(result.error?.code, "TLS_FAILED");
    assert.ok(mesh.network.now < 10_100);
  });

  test("a server that shakes hands but never sends SETTINGS is given up after 10 s in all", () => {
    const mesh = new Mesh();
    mesh.inbound.listen(
      { address: { ip: "0.0.0.0", port: 15_009 } },
      {
        onAccept: (connection) => {
          App.on(connection);
          connection.write(NativeBuffer.from(Buffer.from([HELLO])), 0, 1);
        },
        onAcceptError() {},
      },
    );
    const { result } = openAll(mesh, 1, { ...KEY, address: { ip: "10.0.0.3", port: 15_009 } })[0]!;
    assert.equal(result.error?.code, "HTTP2_FAILED");
    assert.match(result.error.message, /^http2 handshake failed: /);
    assert.ok(mesh.network.now < 10_100);
  });

  test("too many that wait for one destination fail at once, the others do not", () => {
    const mesh = new Mesh({ pool: { maxWaiting: 5 } });
    const all = openAll(mesh, 8);
    assert.deepEqual(
      all.map(({ result }) => result.error?.code ?? "established"),
      [...Array.from({ length: 5 }, () => "established"), ...Array.from({ length: 3 }, () => "CONNECT_FAILED")],
    );
  });

  test("a header that cannot be sent fails its own tunnel and no other", () => {
    const mesh = new Mesh();
    const [good] = openAll(mesh, 1);
    let error: MeshError | undefined;
    mesh.pool.open(
      KEY,
      { ...REQUEST, headers: [["baggage", "a\r\nb"]] },
      { onEstablished() {}, onFailed: (_tunnel, reason) => void (error = reason) },
    );
    mesh.until("the failure", () => error !== undefined);
    assert.equal(error?.code, "HTTP2_FAILED");
    assert.equal(good!.result.error, undefined);
    assert.deepEqual(mesh.pool.size, { connections: 1, tunnels: 1 });
  });

  test("an answer with a header that cannot be sent fails its own tunnel and no other", () => {
    let count = 0;
    const mesh = new Mesh({
      onTunnel: (tunnel) => mesh.acceptTunnel(tunnel, count++ === 1 ? [["baggage", "\0"]] : []),
    });
    const [good] = openAll(mesh, 1);
    const [bad] = openAll(mesh, 1);
    assert.match(bad!.result.error?.message ?? "", /INTERNAL_ERROR/);
    assert.equal(good!.result.error, undefined);
    assert.equal(mesh.inboundEnds[0]?.error?.code, "HTTP2_ERROR");
  });

  test("nothing is called inside of open, nor after cancel", () => {
    const mesh = new Mesh({ pool: { session: () => undefined } });
    const { result, tunnel } = open(mesh);
    assert.equal(result.error, undefined);
    tunnel.cancel();
    mesh.pass(100);
    assert.equal(result.error, undefined);
  });

  test("a tunnel that is cancelled while it waits leaves no stream behind", () => {
    const mesh = new Mesh();
    const { tunnel } = open(mesh);
    const { result } = open(mesh);
    tunnel.cancel();
    mesh.until("the other one", () => result.established);
    assert.equal(mesh.pool.size.tunnels, 1);
  });

  test("cancelling a tunnel that was asked for tells the server", () => {
    let cancelled = 0;
    const mesh = new Mesh({ onTunnel: (tunnel) => void (tunnel.onCancelled = () => void cancelled++) });
    const { tunnel } = open(mesh);
    mesh.pass(100);
    tunnel.cancel();
    mesh.until("the server knows", () => cancelled === 1);
  });

  test("a tunnel that a draining server has not looked at moves to another connection by itself", () => {
    const mesh = new Mesh();
    openAll(mesh, 1);
    const [server] = mesh.servers.keys();
    const many = Array.from({ length: 20 }, () => open(mesh));
    server!.drain();
    mesh.until("all are established", () => many.every(({ result }) => result.established));
  });

  test("a connection that dies under a tunnel that was asked for: the tunnel is asked for again", () => {
    let seen = 0;
    const mesh = new Mesh({
      onTunnel: (tunnel) => {
        if (++seen === 1) [...mesh.servers.keys()][0]!.close(REASON);
        else mesh.acceptTunnel(tunnel);
      },
    });
    const { result } = openAll(mesh, 1)[0]!;
    assert.ok(result.established);
    assert.equal(mesh.servers.size, 2);
  });
});

describe("stress", () => {
  test("stress_many_client_many_sources: hundreds of tunnels over several keys, on a hostile network", () => {
    for (const seed of [1, 2, 3]) {
      const mesh = new Mesh({ seed, faults: { shortReads: 0.2, shortWrites: 0.2, maxSegment: 500 } });
      const all = Array.from({ length: 300 }, (_, i) => open(mesh, { ...KEY, sourceIp: `10.1.0.${i % 7}` }));
      mesh.until("all tunnels", () => all.every(({ result }) => result.established));
      assert.deepEqual(mesh.pool.size, { connections: 7, tunnels: 300 });
      for (const { tunnel } of all) tunnel.cancel();
      assert.equal(mesh.pool.size.tunnels, 0);
    }
  });

  test("ten thousand tunnels opened, used and reset over one connection", () => {
    const mesh = new Mesh();
    for (let round = 0; round < 100; round++) {
      const clients = Array.from({ length: 100 }, () => mesh.connect());
      for (const client of clients) client.send("x");
      mesh.until("a round", () => mesh.serverApps.filter((app) => app.received === "x").length === 100);
      for (const client of clients) client.reset();
      mesh.until("their end", () => mesh.outboundEnds.length === 100 && mesh.inboundEnds.length === 100);
      assert.ok([...mesh.outboundEnds, ...mesh.inboundEnds].every((end) => end.error === undefined));
      mesh.serverApps.length = mesh.outboundEnds.length = mesh.inboundEnds.length = 0;
      mesh.outboundRelays.length = mesh.inboundRelays.length = mesh.established.length = 0;
    }
    assert.equal(mesh.servers.size, 1);
    assert.deepEqual([...mesh.servers.values()], ["open"]);
    assert.equal(mesh.leftovers.leased, 0);
  });
});
