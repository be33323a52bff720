import assert from "node:assert/strict";
import { Errno, SystemError } from "@tulle/linux";
import { type ComplianceWorld, dial, listenOn, Peer, register, settle, until } from "./harness.ts";

export function testListeners(name: string, create: () => ComplianceWorld): void {
  register(name, create, {
    "many connections at once are all accepted"(world) {
      const { listener, accepted } = listenOn(world, world.serverV4);
      const clients = Array.from({ length: 200 }, () =>
        dial(world, { ip: world.serverV4, port: listener.address.port }),
      );
      until(world, "all are accepted", () => accepted.length === 200 && clients.every((peer) => peer.connected === 0));
      assert.equal(world.server.open.connections, 200);
      for (const client of clients) client.connection.close();
      for (const server of accepted) until(world, "each has ended", () => server.ended);
    },

    "a listener that is paused accepts nothing until it is resumed"(world) {
      const { listener, accepted } = listenOn(world, world.serverV4);
      listener.pause();
      listener.pause();
      dial(world, { ip: world.serverV4, port: listener.address.port });
      settle(world);
      assert.equal(accepted.length, 0);
      listener.resume();
      until(world, "it is accepted", () => accepted.length === 1);
    },

    "a listener may pause itself while it accepts"(world) {
      let count = 0;
      const listener = world.server.listen(
        { address: { ip: world.serverV4, port: 0 } },
        {
          onAccept(connection) {
            connection.setHandler(new Peer());
            count++;
            listener.pause();
          },
          onAcceptError: () => {},
        },
      );
      for (let i = 0; i < 5; i++) dial(world, { ip: world.serverV4, port: listener.address.port });
      settle(world);
      assert.equal(count, 1);
      listener.resume();
      until(world, "the next one is accepted", () => count === 2);
    },

    "a listener that is closed refuses, and closing twice is closing once"(world) {
      const { listener } = listenOn(world, world.serverV4);
      listener.close();
      listener.close();
      assert.equal(world.server.open.listeners, 0);
      const client = dial(world, { ip: world.serverV4, port: listener.address.port });
      until(world, "it is refused", () => client.connected !== undefined);
      assert.equal(client.connected, -Errno.ECONNREFUSED);
    },

    "a port that is taken cannot be listened on"(world) {
      const { listener } = listenOn(world, world.serverV4);
      const again = () =>
        world.server.listen({ address: { ip: world.serverV4, port: listener.address.port } }, nobody());
      assert.throws(again, (error) => error instanceof SystemError && error.code === "EADDRINUSE");
      assert.equal(world.server.open.listeners, 1);
    },

    "an address of somebody else cannot be listened on"(world) {
      const foreign = () => world.server.listen({ address: { ip: "192.0.2.77", port: 0 } }, nobody());
      assert.throws(foreign, (error) => error instanceof SystemError && error.code === "EADDRNOTAVAIL");
      assert.equal(world.server.open.listeners, 0);
    },

    "two listeners with reusePort share a port"(world) {
      const first = listenOn(world, world.serverV4, undefined, { reusePort: true });
      const { port } = first.listener.address;
      const second = world.server.listen({ address: { ip: world.serverV4, port }, reusePort: true }, nobody());
      assert.equal(second.address.port, port);
      assert.equal(world.server.open.listeners, 2);
    },

    "running out of descriptors is told, and the connection is accepted later"(world) {
      const { listener, accepted, errors } = listenOn(world, world.serverV4);
      const client = dial(world, { ip: world.serverV4, port: listener.address.port });
      world.failAccepts(true);
      try {
        until(world, "accept has failed", () => errors.length > 0);
        settle(world, 50);
      } finally {
        world.failAccepts(false);
      }
      assert.deepEqual(errors, [-Errno.EMFILE], "it backs off instead of trying all the time");
      assert.equal(accepted.length, 0);
      until(world, "it is accepted after all", () => accepted.length === 1 && client.connected === 0);
      client.write("hello");
      until(world, "it works", () => accepted[0]?.text === "hello");
    },
  });
}

function nobody() {
  return { onAccept: () => assert.fail("nothing is expected here"), onAcceptError: () => {} };
}
