import assert from "node:assert/strict";
import { NativeBuffer } from "@tulle/linux";
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

/** Reads after which a handler that always finds more has not been stopped. */
const ENDLESS = 10_000;

export function testReading(name: string, create: () => ComplianceWorld): void {
  register(name, create, {
    "onReadable is not called again before read has returned AGAIN"(world) {
      const { client, server } = connectPair(world, (peer) => {
        peer.readable = () => void peer.readOnce(3);
      });
      client.write("abcdef");
      until(world, "something can be read", () => server.readableCalls === 1);
      client.write("ghi");
      settle(world);
      assert.equal(server.readableCalls, 1);
      assert.equal(server.text, "abc");
    },

    "resumeReading brings back a handler that had no room"(world) {
      const { client, server } = connectPair(world, (peer) => {
        peer.readable = () => void peer.readOnce(3);
      });
      client.write("abcdef");
      until(world, "something can be read", () => server.readableCalls === 1);
      server.connection.resumeReading();
      assert.equal(server.readableCalls, 1, "the call comes in the next turn, not within resumeReading");
      until(world, "it is called again", () => server.readableCalls === 2);
      assert.equal(server.text, "abcdef");
    },

    "resumeReading with nothing to read waits for something"(world) {
      const { client, server } = connectPair(world);
      server.connection.resumeReading();
      settle(world);
      const before = server.readableCalls;
      client.write("now");
      until(world, "it arrives", () => server.text === "now");
      assert.equal(server.readableCalls, before + 1);
    },

    "after AGAIN more bytes call onReadable again"(world) {
      const { client, server } = connectPair(world);
      for (let i = 1; i <= 5; i++) {
        client.write("x");
        until(world, "it arrives", () => server.receivedBytes === i);
        assert.equal(server.connection.read(server.scratch, 0, 1), AGAIN);
      }
    },

    "a handler that is set later gets what waits"(world) {
      const { client, server } = connectPair(world, (peer) => {
        peer.reads = false;
      });
      client.write("waiting");
      until(world, "something can be read", () => server.readableCalls === 1);
      const second = new Peer();
      server.connection.setHandler(second);
      server.connection.resumeReading();
      until(world, "the second handler has it", () => second.text === "waiting");
    },

    "a connection that always has more is stopped by its share, and others get theirs"(world) {
      const accepting = listenOn(world, world.serverV4);
      const connect = () => {
        const client = dial(world, { ip: world.serverV4, port: accepting.listener.address.port });
        const count = accepting.accepted.length;
        until(world, "it is accepted", () => accepting.accepted.length > count && client.connected === 0);
        return { client, server: accepting.accepted.at(-1) as Peer };
      };
      const busy = connect();
      const quiet = connect();
      const load = NativeBuffer.alloc(64 * 1024);
      let stopped = 0;
      busy.server.readable = (peer) => {
        // Where both ends share a kernel, the next bytes are there before the next read.
        let reads = 0;
        while (reads < ENDLESS) {
          const count = peer.connection.read(peer.scratch, 0, load.length);
          if (count <= 0) break;
          reads++;
          busy.client.connection.write(load, 0, load.length);
        }
        assert.ok(reads < ENDLESS, "nothing has stopped it");
        stopped++;
      };
      busy.client.connection.write(load, 0, load.length);
      quiet.client.write("hello");
      until(world, "the quiet one was served", () => quiet.server.text === "hello");
      const before = stopped;
      until(world, "the busy one goes on", () => stopped > before + 3);
      assert.equal(world.server.faults, 0);
    },

    "a share that is used up gives AGAIN and is renewed without new bytes"(world) {
      const total = 4 * 1024 * 1024;
      const { client, server } = connectPair(world, (peer) => {
        peer.reads = false;
      });
      const load = NativeBuffer.alloc(total);
      let sent = 0;
      const send = () => {
        while (sent < total) {
          const count = client.connection.write(load, sent, total - sent);
          if (count <= 0) return;
          sent += count;
        }
      };
      client.writable = send;
      send();
      settle(world);
      // By single bytes the share of calls is used up long before the bytes are.
      server.readable = (peer) => {
        while (peer.connection.read(peer.scratch, 0, 1) > 0) peer.receivedBytes++;
      };
      server.connection.resumeReading();
      const enough = 200;
      until(world, "hundreds of calls were served", () => server.receivedBytes >= enough);
      assert.ok(server.readableCalls > 3);
      server.readable = undefined;
      server.reads = true;
      until(world, "the rest has come", () => server.receivedBytes === total);
    },

    "accepted connections hear of bytes that were there before"(world) {
      const accepting = listenOn(world, world.serverV4);
      accepting.listener.pause();
      const client = dial(world, { ip: world.serverV4, port: accepting.listener.address.port });
      client.readable = () => {};
      settle(world);
      if (client.connected === 0) client.write("early");
      accepting.listener.resume();
      const server = awaitPair(world, client, accepting);
      if (client.connection.closed) return;
      if (server.text !== "early") client.write("early");
      until(world, "they are read", () => server.text.startsWith("early"));
    },
  });
}
