import assert from "node:assert/strict";
import { test } from "node:test";
import { AddressBuffer } from "./address-buffer.ts";
import { AF_INET, AF_INET6 } from "./constants.ts";
import { Descriptor, openDescriptors } from "./descriptor.ts";
import { Errno } from "./errno.ts";
import { NativeBuffer } from "./native-buffer.ts";
import * as net from "./socket.ts";
import * as options from "./socket-options.ts";

const { SocketOptions } = options;
const PATIENCE_MS = 5000;

/** Repeats a call that does not block until it gives something else than -EAGAIN. */
function eventually(call: () => number): number {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const result = call();
    if (result !== -Errno.EAGAIN) return result;
    assert.ok(performance.now() < deadline, "waited in vain");
  }
}

function pair(prepare: (listener: Descriptor) => void = () => {}): Descriptor[] {
  const address = new AddressBuffer();
  const listener = net.openSocket(AF_INET, "stream", "listener");
  prepare(listener);
  assert.equal(net.bind(listener, address, address.encode("127.0.0.1", 0)), 0);
  assert.equal(net.listen(listener, 1), 0);
  assert.equal(net.localAddress(listener, address), 0);
  const { port } = address.decode();
  const client = net.openSocket(AF_INET, "stream", "client");
  const connecting = net.connect(client, address, address.encode("127.0.0.1", port));
  assert.ok(connecting === 0 || connecting === -Errno.EINPROGRESS);
  const peer = new AddressBuffer();
  const server = new Descriptor(
    eventually(() => net.accept(listener, peer)),
    "server",
  );
  assert.equal(net.localAddress(client, address), 0);
  assert.deepEqual(peer.decode(), address.decode());
  return [client, server, listener];
}

function closeAll(descriptors: readonly Descriptor[]): void {
  for (const descriptor of descriptors) descriptor.close();
  assert.deepEqual(openDescriptors(), []);
}

test("bytes are read and written at the given places of their buffers", () => {
  const [client, server, listener] = pair() as [Descriptor, Descriptor, Descriptor];
  assert.equal(net.write(client, NativeBuffer.from(Buffer.from("..abc..")), 2, 3), 3);
  const buffer = NativeBuffer.from(Buffer.from("-".repeat(10)));
  assert.equal(
    eventually(() => net.read(server, buffer, 4, 6)),
    3,
  );
  assert.equal(buffer.bytes.toString(), "----abc---");
  assert.equal(net.read(server, buffer, 0, 10), -Errno.EAGAIN);
  assert.equal(net.shutdownWrite(client), 0);
  assert.equal(
    eventually(() => net.read(server, buffer, 0, 10)),
    0,
  );
  closeAll([client, server, listener]);
});

test("a range outside of the buffer never reaches the kernel", () => {
  const [client, server, listener] = pair() as [Descriptor, Descriptor, Descriptor];
  const buffer = NativeBuffer.alloc(8);
  const address = new AddressBuffer();
  for (const call of [
    () => net.read(client, buffer, 0, 9),
    () => net.write(client, buffer, 8, 1),
    () => net.receiveFrom(client, buffer, -1, 2, address),
    () => net.sendTo(client, buffer, 0, 9, address, 16),
    () => net.sendTo(client, buffer, 0, 8, address, 1000),
    () => net.bind(client, address, 1000),
    () => net.connect(client, address, 1000),
  ]) {
    assert.throws(call, RangeError);
  }
  closeAll([client, server, listener]);
});

test("every call on a closed descriptor gives EBADF", () => {
  const closed = net.openSocket(AF_INET, "stream");
  closed.close();
  const buffer = NativeBuffer.alloc(8);
  const address = new AddressBuffer();
  const length = address.encode("127.0.0.1", 1);
  const results = [
    net.read(closed, buffer, 0, 8),
    net.write(closed, buffer, 0, 8),
    net.bind(closed, address, length),
    net.connect(closed, address, length),
    net.listen(closed, 1),
    net.accept(closed, address),
    net.shutdownWrite(closed),
    net.localAddress(closed, address),
    net.peerAddress(closed, address),
    net.originalDestination(closed, false, address),
    net.receiveFrom(closed, buffer, 0, 8, address),
    net.sendTo(closed, buffer, 0, 8, address, 16),
    options.setOption(closed, SocketOptions.noDelay, 1),
    options.setResetOnClose(closed),
    options.takeError(closed),
  ];
  assert.deepEqual(new Set(results), new Set([-Errno.EBADF]));
  assert.equal(options.getOption(closed, SocketOptions.noDelay), undefined);
});

test("accepted connections inherit TCP_NODELAY, keep-alive, user timeout and mark from their listener", () => {
  const keepAlive = { idleSeconds: 181, intervalSeconds: 61, retries: 7, userTimeoutMs: 4321 };
  const descriptors = pair((listener) => {
    assert.equal(options.setOption(listener, SocketOptions.noDelay, 1), 0);
    assert.equal(options.setKeepAlive(listener, keepAlive), 0);
    assert.equal(options.setOption(listener, SocketOptions.mark, 0x539), 0, "needs root");
  });
  const server = descriptors[1] as Descriptor;
  for (const [option, expected] of [
    [SocketOptions.noDelay, 1],
    [SocketOptions.keepAlive, 1],
    [SocketOptions.keepIdleSeconds, 181],
    [SocketOptions.keepIntervalSeconds, 61],
    [SocketOptions.keepCount, 7],
    [SocketOptions.userTimeoutMs, 4321],
    [SocketOptions.mark, 0x539],
  ] as const) {
    assert.equal(options.getOption(server, option), expected, option.name);
  }
  closeAll(descriptors);
});

test("every option can be set and read back", () => {
  for (const [family, names] of [
    [AF_INET, ["reuseAddress", "reusePort", "noDelay", "transparentV4", "freebindV4", "bindAddressNoPort"]],
    [AF_INET6, ["v6Only", "transparentV6", "freebindV6", "bindAddressNoPort"]],
  ] as const) {
    const socket = net.openSocket(family, "stream");
    for (const name of names) {
      assert.equal(options.setOption(socket, SocketOptions[name], 1), 0, name);
      assert.equal(options.getOption(socket, SocketOptions[name]), 1, name);
    }
    closeAll([socket]);
  }
  const listener = net.openSocket(AF_INET, "stream");
  assert.equal(options.getOption(listener, SocketOptions.acceptsConnections), 0);
  net.listen(listener, 1);
  assert.equal(options.getOption(listener, SocketOptions.acceptsConnections), 1);
  closeAll([listener]);
});

test("IPV6_TRANSPARENT is IP_TRANSPARENT for an IPv6 socket, so one call does for both families", () => {
  const socket = net.openSocket(AF_INET6, "stream");
  assert.equal(options.setTransparent(socket, AF_INET6), 0);
  assert.equal(options.getOption(socket, SocketOptions.transparentV4), 1);
  closeAll([socket]);
});

test("closing after setResetOnClose sends RST, and the error of a socket is taken once", () => {
  const [client, server, listener] = pair() as [Descriptor, Descriptor, Descriptor];
  assert.equal(options.setResetOnClose(client), 0);
  client.close();
  const error = eventually(() => options.takeError(server) || -Errno.EAGAIN);
  assert.equal(error, -Errno.ECONNRESET);
  assert.equal(options.takeError(server), 0);
  closeAll([server, listener]);
});

test("writing to a connection that is gone gives EPIPE, not a signal", () => {
  net.ignoreBrokenPipes();
  const [client, server, listener] = pair() as [Descriptor, Descriptor, Descriptor];
  assert.equal(net.shutdownWrite(client), 0);
  assert.equal(net.write(client, NativeBuffer.alloc(1), 0, 1), -Errno.EPIPE);
  closeAll([client, server, listener]);
});
