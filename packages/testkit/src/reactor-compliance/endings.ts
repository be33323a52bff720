import assert from "node:assert/strict";
import { Errno, NativeBuffer } from "@tulle/linux";
import { type ComplianceWorld, connectPair, dial, listenOn, type Peer, register, settle, until } from "./harness.ts";

export function testEndings(name: string, create: () => ComplianceWorld): void {
  register(name, create, {
    "the client closes its half, the server answers and closes the other"(world) {
      const { client, server } = connectPair(world);
      halfClose(world, client, server);
    },

    "the server closes its half first"(world) {
      const { client, server } = connectPair(world);
      halfClose(world, server, client);
    },

    "FIN that comes with the last bytes is seen after them"(world) {
      const { client, server } = connectPair(world);
      client.write("the end");
      client.connection.close();
      until(world, "the end is read", () => server.over);
      assert.equal(server.text, "the end");
      assert.equal(server.error, 0);
    },

    "FIN is seen by a handler that reads what it knows of and no more"(world) {
      const { client, server } = connectPair(world, (peer) => {
        // Asks for exactly what was sent, then for more: no short read tells it that the queue is empty.
        peer.readable = () => {
          while (peer.readOnce(4) > 0);
        };
      });
      client.write("12345678");
      client.connection.shutdownWrite();
      until(world, "the end is read", () => server.ended);
      assert.equal(server.text, "12345678");
    },

    "FIN after everything was read is seen"(world) {
      const { client, server } = connectPair(world);
      client.write("first");
      until(world, "it is read", () => server.text === "first");
      client.connection.shutdownWrite();
      until(world, "the end is read", () => server.ended);
    },

    "after the end, read goes on saying 0"(world) {
      const { client, server } = connectPair(world);
      client.connection.shutdownWrite();
      until(world, "the end is read", () => server.ended);
      for (let i = 0; i < 3; i++) assert.equal(server.connection.read(server.scratch, 0, 10), 0);
    },

    "shutdownWrite while connecting sends FIN once connected"(world) {
      const accepting = listenOn(world, world.serverV4);
      const client = dial(world, { ip: world.serverV4, port: accepting.listener.address.port });
      client.connection.shutdownWrite();
      until(world, "the server has read the end", () => accepting.accepted[0]?.ended === true);
      assert.equal(client.connected, 0);
    },

    "shutdownWrite twice is once, and writing after it fails"(world) {
      const { client } = connectPair(world);
      client.connection.shutdownWrite();
      client.connection.shutdownWrite();
      assert.equal(client.write("late"), -Errno.EPIPE);
    },

    "reset reaches the other end as ECONNRESET"(world) {
      const { client, server } = connectPair(world);
      server.connection.reset();
      until(world, "the client has seen it", () => client.over);
      assert.equal(client.error, -Errno.ECONNRESET);
    },

    "closing with unread bytes resets"(world) {
      const { client, server } = connectPair(world, (peer) => {
        peer.reads = false;
      });
      client.write("never read");
      until(world, "they are there", () => server.readableCalls === 1);
      server.connection.close();
      until(world, "the client has seen it", () => client.over);
      assert.equal(client.error, -Errno.ECONNRESET);
    },

    "a reset after the end is told once, in place of the end"(world) {
      const { client, server } = connectPair(world);
      client.connection.shutdownWrite();
      until(world, "the end is read", () => server.ended);
      const before = server.readableCalls;
      client.connection.reset();
      until(world, "the reset is read", () => server.error !== 0);
      assert.equal(server.error, -Errno.ECONNRESET);
      settle(world);
      assert.equal(server.readableCalls, before + 1);
    },

    "writing to a connection that the peer has reset fails"(world) {
      const { client, server } = connectPair(world);
      server.connection.reset();
      until(world, "the client has seen it", () => client.over);
      const first = client.write("x");
      assert.ok(first === -Errno.EPIPE || first === -Errno.ECONNRESET, `the first write gave ${first}`);
      assert.equal(client.write("x"), -Errno.EPIPE);
    },

    "a reset frees a writer that waits for room"(world) {
      const { client, server } = connectPair(world, (peer) => {
        peer.reads = false;
      });
      const load = NativeBuffer.alloc(256 * 1024);
      while (client.connection.write(load, 0, load.length) === load.length);
      settle(world);
      while (client.connection.write(load, 0, load.length) > 0);
      const before = client.writableCalls;
      server.connection.reset();
      until(world, "the writer or the reader is told", () => client.writableCalls > before || client.error !== 0);
      until(world, "the reader is told", () => client.error !== 0);
    },

    "every call on a closed connection gives EBADF, and closing twice is closing once"(world) {
      const { client } = connectPair(world);
      const { connection } = client;
      connection.close();
      assert.equal(connection.closed, true);
      const open = world.client.open.connections;
      connection.close();
      connection.reset();
      connection.shutdownWrite();
      connection.resumeReading();
      assert.equal(world.client.open.connections, open);
      assert.equal(connection.read(client.scratch, 0, 10), -Errno.EBADF);
      assert.equal(connection.write(client.scratch, 0, 10), -Errno.EBADF);
    },

    "a connection that is closed by another one's handler hears nothing more"(world) {
      const accepting = listenOn(world, world.serverV4);
      const clients = [0, 1].map((i) => {
        const client = dial(world, { ip: world.serverV4, port: accepting.listener.address.port });
        until(world, "it is accepted", () => accepting.accepted.length === i + 1 && client.connected === 0);
        return client;
      });
      const [a, b] = accepting.accepted as [Peer, Peer];
      a.readable = () => b.connection.close();
      b.readable = () => a.connection.close();
      // Both are readable when the server turns: whichever is served first closes the other.
      for (const client of clients) client.write("now");
      until(world, "one was served", () => a.readableCalls + b.readableCalls > 0);
      settle(world);
      assert.equal(a.readableCalls + b.readableCalls, 1);
    },

    "a handler may close its own connection in every call"(world) {
      const accepting = listenOn(world, world.serverV4, (peer) => {
        peer.readable = () => peer.connection.close();
      });
      const address = { ip: world.serverV4, port: accepting.listener.address.port };
      const client = dial(world, address);
      until(world, "it is connected", () => client.connected === 0);
      client.write("x");
      until(world, "the server has closed", () => world.server.open.connections === 0 && client.over);
      client.connection.close();
      world.client.connect(
        { address },
        {
          onConnected: (connection) => connection.close(),
          onReadable: () => assert.fail("onReadable after close"),
          onWritable: () => assert.fail("onWritable after close"),
        },
      );
      until(world, "it has closed itself", () => world.client.open.connections === 0);
      settle(world);
      assert.equal(world.client.faults, 0);
    },

    "closing a reactor closes everything"(world) {
      const { client } = connectPair(world);
      world.client.after(1000, () => {});
      world.server.after(1000, () => {});
      world.client.datagram({ address: { ip: "127.0.0.1", port: 0 } }, { onReadable: () => {} });
      world.client.close();
      world.server.close();
      assert.equal(client.connection.closed, true);
    },
  });
}

function halfClose(world: ComplianceWorld, first: Peer, second: Peer): void {
  first.write("question");
  first.connection.shutdownWrite();
  until(world, "the question and the end are read", () => second.ended);
  assert.equal(second.text, "question");
  assert.equal(second.write("answer"), 6);
  until(world, "the answer is read", () => first.text === "answer");
  assert.equal(first.ended, false);
  second.connection.shutdownWrite();
  until(world, "both have ended", () => first.ended);
  assert.equal(first.error + second.error, 0);
}
