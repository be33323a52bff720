import assert from "node:assert/strict";
import { test } from "node:test";
import { formatIdentity } from "@tulle/base";
import { Capture, connectFrom, Lab, listenIn, type Packet, portOf, until } from "@tulle/lab";
import { NetNamespace } from "@tulle/linux";
import { EpollReactor } from "@tulle/reactor";
import { MemoryCa } from "@tulle/testkit";
import { TlsContext } from "@tulle/tls";
import { acceptHbone, createTunnelPool } from "../src/index.ts";
import { drive } from "./drive.ts";

const HBONE = 15_008;
const OUTBOUND = 15_001;
const CLIENT = { trustDomain: "cluster.local", namespace: "default", serviceAccount: "client" };
const SERVER = { trustDomain: "cluster.local", namespace: "default", serviceAccount: "server" };
const SECRET = "nobody on the wire may read this";
/** Type of the first record (RFC 8446 §5.1). */
const TLS_HANDSHAKE = 22;

for (const family of ["v4", "v6"] as const) {
  test(`one tunnel between two namespaces (${family}): the answer comes back, and the wire shows TLS only`, async () => {
    await using lab = await Lab.create();
    const [clientHost, serverHost] = [await lab.host("client"), await lab.host("server")];
    const address = family === "v4" ? serverHost.v4 : serverHost.v6;
    assert.ok(address !== undefined, "this machine has IPv6");
    await using application = await listenIn(serverHost.namespace.path, { ip: address, port: 0 }, (socket) => {
      socket.on("data", (data) => socket.write(`echo: ${data.toString()}`));
      socket.on("end", () => socket.end());
    });
    const ca = await MemoryCa.create();
    const contexts = await Promise.all(
      [CLIENT, SERVER].map(async (identity) => TlsContext.create((await ca.fetch(identity)).material())),
    );
    const [clientContext, serverContext] = contexts as [TlsContext, TlsContext];
    const clientNamespace = NetNamespace.open(clientHost.namespace.path);
    const serverNamespace = NetNamespace.open(serverHost.namespace.path);
    const reactor = new EpollReactor();
    const stop = drive(reactor);
    try {
      reactor.listen(
        { address: { ip: address, port: HBONE }, namespace: serverNamespace },
        {
          onAccept: (connection) => {
            const session = serverContext.server({ kind: "trust-domain", trustDomain: "cluster.local" });
            acceptHbone(
              { reactor, connection, session },
              {
                onTunnel: (tunnel) => {
                  reactor.connect(
                    { address: { ip: address, port: portOf(application) }, namespace: serverNamespace },
                    {
                      onConnected: (upstream, error) => {
                        if (error === 0) tunnel.accept([], upstream, () => {});
                        else tunnel.reject(503);
                      },
                      onReadable() {},
                      onWritable() {},
                    },
                  );
                },
                onClosed() {},
              },
            );
          },
          onAcceptError() {},
        },
      );
      const pool = createTunnelPool({
        reactor,
        session: (key) => clientContext.client({ kind: "identities", uris: key.destinations }),
        socket: { namespace: clientNamespace },
      });
      const local = family === "v4" ? "127.0.0.1" : "::1";
      reactor.listen(
        { address: { ip: local, port: OUTBOUND }, namespace: clientNamespace },
        {
          onAccept: (connection) => {
            connection.setHandler({ onConnected() {}, onReadable() {}, onWritable() {} });
            pool.open(
              {
                source: formatIdentity(CLIENT),
                destinations: [formatIdentity(SERVER)],
                address: { ip: address, port: HBONE },
                sourceIp: clientHost.v4,
              },
              { authority: `${family === "v4" ? address : `[${address}]`}:${portOf(application)}`, headers: [] },
              {
                onEstablished: (tunnel) => void tunnel.relay(connection, () => {}),
                onFailed: () => connection.reset(),
              },
            );
          },
          onAcceptError() {},
        },
      );

      const capture = await Capture.start(lab.fabric.path, lab.bridge, "tcp");
      const socket = await connectFrom(clientHost.namespace.path, { ip: local, port: OUTBOUND });
      let answer = "";
      socket.on("data", (data) => (answer += data.toString()));
      socket.resume();
      socket.end(SECRET);
      await until(() => answer === `echo: ${SECRET}`, { what: "the answer" });
      const withPayload = (all: readonly Packet[]) => all.filter(({ payload }) => payload.length > 0);
      // What tcpdump has not read when it is told to end is lost.
      await until(() => withPayload(capture.packets).length > 4, { what: "the exchange on the wire" });
      const packets = withPayload(await capture.stop());
      for (const { payload, source, destination } of packets) {
        assert.ok(source.port === HBONE || destination.port === HBONE, "nothing but HBONE is on the wire");
        assert.ok(!Buffer.from(payload).includes("nobody"));
      }
      assert.equal(packets[0]?.payload[0], TLS_HANDSHAKE);
    } finally {
      stop();
      for (const context of contexts) context.close();
      clientNamespace.close();
      serverNamespace.close();
    }
  });
}
