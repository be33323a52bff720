import assert from "node:assert/strict";
import { closeSync, existsSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { MAX_DESCRIPTORS_PER_PACKET } from "./ancillary.ts";
import { Descriptor, openDescriptors } from "./descriptor.ts";
import { Errno } from "./errno.ts";
import { descriptorLimit, setDescriptorLimit } from "./limits.ts";
import { NativeBuffer } from "./native-buffer.ts";
import { SeqpacketListener, SeqpacketSocket } from "./seqpacket.ts";

const directory = mkdtempSync(join(tmpdir(), "tulle-seqpacket-"));
after(() => rmSync(directory, { recursive: true }));

const room = NativeBuffer.alloc(64);
const message = (text: string) => NativeBuffer.from(Buffer.from(text));
const file = () => new Descriptor(openSync("/proc/self/status", "r"), "file");

function withPair(run: (a: SeqpacketSocket, b: SeqpacketSocket) => void): void {
  const [a, b] = SeqpacketSocket.pair();
  try {
    run(a, b);
  } finally {
    a.close();
    b.close();
  }
  assert.deepEqual(openDescriptors(), []);
}

function send(socket: SeqpacketSocket, text: string, descriptors: readonly Descriptor[] = []): number {
  return socket.send(message(text), 0, text.length, descriptors);
}

test("a listener takes connections at its path, packets stay apart in both directions", () => {
  const path = join(directory, "a.sock");
  const listener = SeqpacketListener.listen(path);
  assert.equal(listener.accept(), -Errno.EAGAIN);
  const client = SeqpacketSocket.connect(path);
  const server = listener.accept();
  assert.ok(server instanceof SeqpacketSocket);
  for (const [from, to] of [
    [client, server],
    [server, client],
  ] as const) {
    assert.equal(to.receive(room, 0, 64), -Errno.EAGAIN);
    assert.equal(send(from, "one"), 3);
    assert.equal(send(from, "three"), 5);
    assert.equal(to.receive(room, 2, 62), 3);
    assert.equal(room.bytes.toString("utf8", 2, 5), "one");
    assert.equal(to.receive(room, 0, 64), 5);
  }
  client.close();
  assert.equal(server.receive(room, 0, 64), 0, "the end");
  assert.equal(send(server, "x"), -Errno.EPIPE);
  server.close();
  listener.close();
  assert.equal(existsSync(path), false);
  assert.deepEqual(openDescriptors(), []);
});

test("descriptors travel with their packet, both ways, as duplicates that close on exec", () => {
  withPair((a, b) => {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      using original = file();
      assert.equal(send(from, "here", [original]), 4);
      assert.equal(to.receive(room, 0, 64), 4);
      const taken = to.takeDescriptors();
      assert.equal(taken.length, 1);
      assert.deepEqual(to.takeDescriptors(), []);
      const [copy] = taken as [Descriptor];
      assert.notEqual(copy.fd, original.fd);
      assert.equal(fstatSync(copy.fd).ino, fstatSync(original.fd).ino);
      const flags = readFileSync(`/proc/self/fdinfo/${copy.fd}`, "utf8");
      assert.match(flags, /flags:\s+0?2\d{6}/, "O_CLOEXEC is 02000000");
      copy.close();
      assert.equal(original.closed, false);
    }
  });
});

test("as many descriptors as allowed arrive in order; one more is refused before it is sent", () => {
  withPair((a, b) => {
    const files = Array.from({ length: MAX_DESCRIPTORS_PER_PACKET }, file);
    assert.throws(() => send(a, "x", [...files, files[0] as Descriptor]), RangeError);
    assert.equal(send(a, "x", files), 1);
    assert.equal(b.receive(room, 0, 64), 1);
    assert.equal(b.descriptorsTruncated, false);
    const taken = b.takeDescriptors();
    assert.equal(taken.length, MAX_DESCRIPTORS_PER_PACKET);
    for (const descriptor of [...files, ...taken]) descriptor.close();
  });
});

test("descriptors that nobody takes are closed by the next receive, and by close", () => {
  withPair((a, b) => {
    using original = file();
    send(a, "first", [original, original]);
    send(a, "second", [original]);
    b.receive(room, 0, 64);
    assert.equal(openDescriptors().filter((text) => text.startsWith("received")).length, 2);
    b.receive(room, 0, 64);
    assert.equal(openDescriptors().filter((text) => text.startsWith("received")).length, 1);
  });
});

test("a packet that is longer than the buffer is told as truncated, the next one is whole", () => {
  withPair((a, b) => {
    send(a, "0123456789");
    send(a, "next");
    assert.equal(b.receive(room, 0, 4), 4);
    assert.equal(b.truncated, true);
    assert.equal(b.receive(room, 0, 4), 4);
    assert.equal(b.truncated, false);
    assert.equal(room.bytes.toString("utf8", 0, 4), "next");
  });
});

test("descriptors that the process has no room for are told as truncated, and none leaks", () => {
  withPair((a, b) => {
    using original = file();
    send(a, "x", [original, original]);
    const { soft } = descriptorLimit();
    const free = openSync("/dev/null", "r");
    closeSync(free);
    // Room for one.
    setDescriptorLimit(free + 1);
    try {
      assert.equal(b.receive(room, 0, 64), 1);
    } finally {
      setDescriptorLimit(soft);
    }
    assert.equal(b.descriptorsTruncated, true);
    const taken = b.takeDescriptors();
    assert.equal(taken.length, 1);
    for (const descriptor of taken) descriptor.close();
  });
});

test("a queue that is full gives EAGAIN and takes more after a receive", () => {
  withPair((a, b) => {
    let count = 0;
    while (send(a, "packet") > 0) count++;
    assert.ok(count > 0);
    assert.equal(send(a, "packet"), -Errno.EAGAIN);
    assert.equal(b.receive(room, 0, 64), 6);
  });
});

test("nothing is sent or received with a bad range, an empty packet, a closed descriptor or a closed socket", () => {
  withPair((a) => {
    assert.throws(() => a.send(room, 0, 65), RangeError);
    assert.throws(() => a.receive(room, 60, 5), RangeError);
    assert.throws(() => a.send(room, 0, 0), RangeError);
    const gone = file();
    gone.close();
    assert.throws(() => a.send(room, 0, 1, [gone]), RangeError);
    a.close();
    assert.equal(a.send(room, 0, 1), -Errno.EBADF);
    assert.equal(a.receive(room, 0, 1), -Errno.EBADF);
  });
});

test("a socket that was left behind is replaced, any other file is not", () => {
  const path = join(directory, "b.sock");
  const first = SeqpacketListener.listen(path);
  const second = SeqpacketListener.listen(path);
  first.close();
  assert.equal(existsSync(path), true, "the first no longer owns the path");
  SeqpacketSocket.connect(path).close();
  second.close();
  assert.throws(() => SeqpacketSocket.connect(path), { code: "ENOENT" });
  const plain = join(directory, "plain");
  writeFileSync(plain, "kept");
  assert.throws(() => SeqpacketListener.listen(plain), { code: "EADDRINUSE" });
  assert.equal(readFileSync(plain, "utf8"), "kept");
  assert.deepEqual(openDescriptors(), []);
});

test("a path that does not fit is refused with the reason", () => {
  for (const path of ["", "x".repeat(108), "a\0b"]) {
    assert.throws(() => SeqpacketSocket.connect(path), /1 to 107 bytes long/);
  }
});
