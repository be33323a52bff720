import assert from "node:assert/strict";
import type { SocketAddress } from "@tulle/base";
import { Errno, NativeBuffer } from "@tulle/linux";
import { AGAIN, type DatagramSocket, type Reactor } from "@tulle/reactor";
import { type ComplianceWorld, register, settle, until } from "./harness.ts";

interface Inbox {
  readonly socket: DatagramSocket;
  readonly received: { readonly text: string; readonly from: SocketAddress }[];
  readonly results: number[];
}

export function testDatagrams(name: string, create: () => ComplianceWorld): void {
  register(name, create, {
    "datagrams go both ways over IPv4, and say whom they are from": (world) => pingPong(world, world.serverV4),
    "datagrams go both ways over IPv6, and say whom they are from": (world) => pingPong(world, world.serverV6),

    "an empty datagram is a datagram"(world) {
      const server = open(world.server, world.serverV4);
      const client = open(world.client, world.serverV4);
      assert.equal(client.socket.send(NativeBuffer.alloc(1), 0, 0, server.socket.address), 0);
      until(world, "it has arrived", () => server.received.length === 1);
      assert.equal(server.received[0]?.text, "");
    },

    "a datagram that does not fit is told and gone, the next one is received"(world) {
      const server = open(world.server, world.serverV4, 10);
      const client = open(world.client, world.serverV4);
      send(client, "far more than ten bytes", server.socket.address);
      until(world, "it is told", () => server.results.includes(-Errno.EMSGSIZE));
      send(client, "short", server.socket.address);
      until(world, "the next has arrived", () => server.received.length === 1);
      assert.equal(server.received[0]?.text, "short");
    },

    "more datagrams than one turn's share all arrive"(world) {
      const server = open(world.server, world.serverV4);
      const client = open(world.client, world.serverV4);
      for (let i = 0; i < 150; i++) assert.equal(send(client, `${i}`, server.socket.address), `${i}`.length);
      until(world, "all have arrived", () => server.received.length === 150);
      const expected = Array.from({ length: 150 }, (_, i) => `${i}`);
      assert.deepEqual(server.received.map(({ text }) => text).sort(), expected.sort());
    },

    "every call on a closed socket gives EBADF, and closing twice is closing once"(world) {
      const { socket } = open(world.client, world.serverV4);
      socket.close();
      socket.close();
      const buffer = NativeBuffer.alloc(10);
      assert.equal(socket.closed, true);
      assert.equal(socket.receive(buffer, 0, 10), -Errno.EBADF);
      assert.equal(socket.send(buffer, 0, 10, { ip: world.serverV4, port: 9 }), -Errno.EBADF);
      assert.equal(world.client.open.datagrams, 0);
    },

    "a retired socket over IPv4 answers what it has got, and its successor gets the rest": (world) =>
      retire(world, world.serverV4),
    "a retired socket over IPv6 answers what it has got, and its successor gets the rest": (world) =>
      retire(world, world.serverV6),

    "what a socket that was closed would have got is dropped"(world) {
      const server = open(world.server, world.serverV4);
      const client = open(world.client, world.serverV4);
      send(client, "lost", server.socket.address);
      server.socket.close();
      settle(world);
      assert.equal(server.received.length, 0);
    },
  });
}

function pingPong(world: ComplianceWorld, ip: string): void {
  const server = open(world.server, ip);
  const client = open(world.client, ip);
  send(client, "ping", server.socket.address);
  until(world, "it has arrived", () => server.received.length === 1);
  const { text, from } = server.received[0] as Inbox["received"][number];
  assert.equal(text, "ping");
  assert.equal(from.port, client.socket.address.port);
  send(server, "pong", from);
  until(world, "the answer is back", () => client.received.length === 1);
  assert.deepEqual(client.received[0], { text: "pong", from: server.socket.address });
  assert.equal(client.socket.receive(NativeBuffer.alloc(1), 0, 1), AGAIN);
}

function retire(world: ComplianceWorld, ip: string): void {
  const retired = open(world.server, { ip, port: 0 });
  const address = retired.socket.address;
  const client = open(world.client, ip);
  // More than one turn takes.
  for (let i = 0; i < 100; i++) send(client, `${i}`, address);
  const successor = open(world.server, address);
  retired.socket.retire();
  retired.socket.retire();
  until(world, "all have arrived", () => retired.received.length + successor.received.length === 100);
  const before = retired.received.length;
  for (let i = 0; i < 100; i++) send(client, `${i}`, address);
  until(world, "the rest has arrived", () => retired.received.length + successor.received.length === 200);
  assert.equal(retired.received.length, before);
  const [{ from }] = [...retired.received, ...successor.received] as [Inbox["received"][number]];
  send(retired, "answer", from);
  until(world, "the answer is back", () => client.received.length === 1);
  assert.deepEqual(client.received[0], { text: "answer", from: address });
}

function open(reactor: Reactor, at: string | SocketAddress, room = 2048): Inbox {
  const buffer = NativeBuffer.alloc(room);
  const received: Inbox["received"] = [];
  const results: number[] = [];
  const socket = reactor.datagram(
    typeof at === "string" ? { address: { ip: at, port: 0 } } : { address: at, reusePort: true },
    {
      onReadable(socket) {
        for (;;) {
          const count = socket.receive(buffer, 0, room);
          if (count === AGAIN) return;
          results.push(count);
          if (count >= 0) received.push({ text: buffer.bytes.toString("utf8", 0, count), from: socket.sender });
        }
      },
    },
  );
  return { socket, received, results };
}

function send({ socket }: Inbox, text: string, to: SocketAddress): number {
  const buffer = NativeBuffer.from(Buffer.from(text));
  return socket.send(buffer, 0, buffer.length, to);
}
