import assert from "node:assert/strict";
import { Errno, NativeBuffer } from "@tulle/linux";
import { AGAIN } from "@tulle/reactor";
import {
  awaitPair,
  type ComplianceWorld,
  connectPair,
  dial,
  listenOn,
  Peer,
  register,
  settle,
  until,
} from "./harness.ts";

/** More than the socket buffers of both ends hold. */
const PLENTY = 32 * 1024 * 1024;
const CHUNK = 128 * 1024;

export function testStreams(name: string, create: () => ComplianceWorld): void {
  register(name, create, {
    "bytes go both ways over IPv4": (world) => echoes(world, world.serverV4),
    "bytes go both ways over IPv6": (world) => echoes(world, world.serverV6),

    "addresses are canonical, also where an IPv6 socket takes IPv4"(world) {
      const accepting = listenOn(world, "::");
      const { port } = accepting.listener.address;
      const client = dial(world, { ip: world.serverV4, port });
      const server = awaitPair(world, client, accepting);
      assert.deepEqual(client.connection.peer, { ip: world.serverV4, port });
      assert.deepEqual(server.connection.local, { ip: world.serverV4, port });
      assert.deepEqual(server.connection.peer, client.connection.local);
    },

    "without a redirection the original destination is the local address"(world) {
      const { server } = connectPair(world);
      assert.deepEqual(server.connection.originalDestination(), server.connection.local);
    },

    "ids are never used twice"(world) {
      const accepting = listenOn(world, world.serverV4);
      const ids = new Set<number>();
      for (let i = 0; i < 5; i++) {
        const client = dial(world, { ip: world.serverV4, port: accepting.listener.address.port });
        until(world, "it is accepted", () => accepting.accepted.length === i + 1 && client.connected === 0);
        ids.add(client.connection.id);
        client.connection.close();
      }
      assert.equal(ids.size, 5);
    },

    "a write that does not fit is continued when onWritable says so"(world) {
      const { client, server } = connectPair(world, (peer) => {
        peer.reads = false;
      });
      const source = NativeBuffer.alloc(CHUNK);
      source.bytes.forEach((_, i) => {
        source.bytes[i] = (i * 31 + (i >> 8)) & 0xff;
      });
      let sent = 0;
      let refused = false;
      const send = () => {
        while (sent < PLENTY) {
          const offset = sent % CHUNK;
          const wanted = Math.min(CHUNK - offset, PLENTY - sent);
          const count = client.connection.write(source, offset, wanted);
          assert.ok(count > 0 || count === AGAIN, `write gave ${count}`);
          if (count > 0) sent += count;
          refused ||= count < wanted;
          if (count < wanted) return;
        }
      };
      client.writable = send;
      send();
      settle(world);
      assert.ok(refused, "the buffers took everything: nothing was tested");
      const before = client.writableCalls;
      assert.ok(sent < PLENTY);
      server.reads = true;
      server.readable = (peer) => {
        // Compared as it comes, so that 32 MiB need not be kept.
        for (;;) {
          const count = peer.connection.read(peer.scratch, 0, CHUNK);
          if (count <= 0) return;
          for (let i = 0; i < count; ) {
            const at = (peer.receivedBytes + i) % CHUNK;
            const run = Math.min(CHUNK - at, count - i);
            assert.equal(peer.scratch.bytes.compare(source.bytes, at, at + run, i, i + run), 0);
            i += run;
          }
          peer.receivedBytes += count;
        }
      };
      server.connection.resumeReading();
      until(world, "all of it has arrived", () => server.receivedBytes === PLENTY);
      assert.ok(client.writableCalls > before);
      assert.equal(world.server.faults, 0);
    },

    "what is written while connecting gives AGAIN, and onWritable follows"(world) {
      const { listener } = listenOn(world, world.serverV4);
      const client = dial(world, { ip: world.serverV4, port: listener.address.port });
      assert.equal(client.write("early"), AGAIN);
      assert.equal(client.connection.read(client.scratch, 0, 1), AGAIN);
      until(world, "there is room", () => client.writableCalls === 1);
      assert.equal(client.write("later"), 5);
    },

    "a write without success never calls onWritable by itself"(world) {
      const { client } = connectPair(world);
      assert.equal(client.write("fits"), 4);
      settle(world);
      assert.equal(client.writableCalls, 0);
    },

    "a range outside of the buffer is refused, and so is a read of nothing"(world) {
      const { client } = connectPair(world);
      const buffer = NativeBuffer.alloc(10);
      for (const [offset, length] of [
        [0, 11],
        [-1, 5],
        [8, 3],
        [0.5, 1],
        [Number.NaN, 1],
        [0, -1],
      ] as const) {
        assert.throws(() => client.connection.read(buffer, offset, length), RangeError, `read ${offset}+${length}`);
        assert.throws(() => client.connection.write(buffer, offset, length), RangeError, `write ${offset}+${length}`);
      }
      assert.throws(() => client.connection.read(buffer, 0, 0), RangeError);
    },

    "connecting to a port where nobody listens is refused, later"(world) {
      const gone = listenOn(world, world.serverV4);
      const { port } = gone.listener.address;
      gone.listener.close();
      const client = new Peer();
      const connection = world.client.connect({ address: { ip: world.serverV4, port } }, client);
      assert.equal(client.connected, undefined);
      assert.equal(connection.closed, false);
      until(world, "it is refused", () => client.connected !== undefined);
      assert.equal(client.connected, -Errno.ECONNREFUSED);
      assert.equal(connection.closed, true);
    },

    "connecting to nowhere times out"(world) {
      const client = new Peer();
      const keepAlive = { idleSeconds: 10, intervalSeconds: 10, retries: 3, userTimeoutMs: 300 };
      world.client.connect({ address: world.nowhere, keepAlive }, client);
      until(world, "it has timed out", () => client.connected !== undefined, 120_000);
      assert.equal(client.connected, -Errno.ETIMEDOUT);
    },

    "connecting to nowhere times out when its time is over, and no earlier"(world) {
      const client = new Peer();
      const start = world.client.now();
      const connection = world.client.connect({ address: world.nowhere, timeoutMs: 200 }, client);
      until(world, "it has timed out", () => client.connected !== undefined);
      assert.equal(client.connected, -Errno.ETIMEDOUT);
      assert.equal(connection.closed, true);
      assert.ok(world.client.now() - start >= 199);
    },

    "the time that connecting may take is no concern of what is connected"(world) {
      const { listener, accepted } = listenOn(world, world.serverV4);
      const { port } = listener.address;
      const client = new Peer();
      client.connection = world.client.connect({ address: { ip: world.serverV4, port }, timeoutMs: 50 }, client);
      until(world, "it is connected", () => client.connected === 0 && accepted.length === 1);
      settle(world, 100);
      assert.equal(client.connection.closed, false);
    },

    "an attempt that was closed is not heard of again"(world) {
      const { listener } = listenOn(world, world.serverV4);
      const client = dial(world, { ip: world.serverV4, port: listener.address.port });
      client.connection.close();
      settle(world);
      assert.equal(client.connected, undefined);
      assert.equal(world.client.open.connections, 0);
    },
  });
}

function echoes(world: ComplianceWorld, ip: string): void {
  const accepting = listenOn(world, ip, (peer) => {
    peer.readable = () => {
      peer.drain();
      const text = peer.text;
      peer.received.length = 0;
      if (text !== "") assert.equal(peer.write(text), text.length);
    };
  });
  const client = dial(world, { ip, port: accepting.listener.address.port });
  awaitPair(world, client, accepting);
  for (const text of ["a", "hello", "x".repeat(10_000)]) {
    client.received.length = 0;
    assert.equal(client.write(text), text.length);
    until(world, "the echo is back", () => client.text === text);
  }
}
