import assert from "node:assert/strict";
import { Errno } from "@tulle/linux";
import { type ComplianceWorld, connectPair, dial, listenOn, Peer, register, settle, until } from "./harness.ts";

export function testFaults(name: string, create: () => ComplianceWorld): void {
  register(name, create, {
    "a handler that throws loses its own connection and no other"(world) {
      const accepting = listenOn(world, world.serverV4);
      const connect = (): { client: Peer; server: Peer } => {
        const count = accepting.accepted.length;
        const client = dial(world, { ip: world.serverV4, port: accepting.listener.address.port });
        until(world, "it is accepted", () => accepting.accepted.length > count && client.connected === 0);
        return { client, server: accepting.accepted.at(-1) as Peer };
      };
      const bad = connect();
      const good = connect();
      bad.server.readable = () => {
        throw new Error("the handler's own mistake");
      };
      bad.client.write("x");
      good.client.write("y");
      until(world, "both were served", () => bad.client.over && good.server.text === "y");
      assert.equal(bad.client.error, -Errno.ECONNRESET);
      assert.equal(world.server.faults, 1);
      assert.equal(bad.server.connection.closed, true);
      assert.equal(good.server.connection.closed, false);
    },

    "onAccept that throws resets the connection, and the listener goes on"(world) {
      let throwing = true;
      const accepted = new Peer();
      const listener = world.server.listen(
        { address: { ip: world.serverV4, port: 0 } },
        {
          onAccept(connection) {
            if (throwing) throw new Error("no");
            accepted.connection = connection;
            connection.setHandler(accepted);
          },
          onAcceptError: () => {},
        },
      );
      const address = { ip: world.serverV4, port: listener.address.port };
      const first = dial(world, address);
      until(world, "the first is reset", () => first.over || (first.connected ?? 0) < 0);
      throwing = false;
      const second = dial(world, address);
      until(world, "the second is accepted", () => second.connected === 0 && accepted.connection !== undefined);
      assert.equal(world.server.faults, 1);
    },

    "a connection that nobody takes is reset"(world) {
      const listener = world.server.listen(
        { address: { ip: world.serverV4, port: 0 } },
        { onAccept: () => {}, onAcceptError: () => {} },
      );
      const client = dial(world, { ip: world.serverV4, port: listener.address.port });
      until(world, "it is reset", () => client.over || (client.connected ?? 0) < 0);
      assert.equal(world.server.open.connections, 0);
    },

    "onConnected that throws resets the connection"(world) {
      const accepting = listenOn(world, world.serverV4);
      const handler = {
        onConnected() {
          throw new Error("no");
        },
        onReadable: () => assert.fail("onReadable after a fault"),
        onWritable: () => assert.fail("onWritable after a fault"),
      };
      const address = { ip: world.serverV4, port: accepting.listener.address.port };
      const connection = world.client.connect({ address }, handler);
      until(world, "it has thrown", () => world.client.faults === 1);
      assert.equal(connection.closed, true);
      until(world, "the server has seen it", () => accepting.accepted[0]?.error === -Errno.ECONNRESET);
    },

    "timers, tasks and wake-ups that throw are counted, and the others run"(world) {
      const ran: string[] = [];
      const fail = (what: string) => () => {
        ran.push(what);
        throw new Error(what);
      };
      world.client.after(1, fail("timer"));
      world.client.after(1, () => ran.push("other timer"));
      world.client.defer({ deferred: false, run: fail("task") });
      world.client.defer({ deferred: false, run: () => void ran.push("other task") });
      world.client.onWake(fail("wake"));
      world.wake(world.client);
      until(world, "all have run", () => ran.length >= 5);
      assert.deepEqual(new Set(ran), new Set(["timer", "other timer", "task", "other task", "wake"]));
      assert.equal(world.client.faults, 3);
    },

    "a datagram handler that throws loses nothing but its call"(world) {
      const socket = world.server.datagram(
        { address: { ip: world.serverV4, port: 0 } },
        {
          onReadable() {
            throw new Error("no");
          },
        },
      );
      const { client } = connectPair(world);
      const sender = world.client.datagram({ address: { ip: world.serverV4, port: 0 } }, { onReadable: () => {} });
      sender.send(client.scratch, 0, 5, socket.address);
      until(world, "it has thrown", () => world.server.faults === 1);
      settle(world);
      assert.equal(socket.closed, false);
      assert.equal(client.connection.closed, false);
    },
  });
}
