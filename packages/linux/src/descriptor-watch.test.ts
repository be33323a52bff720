import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { DescriptorWatch } from "./descriptor-watch.ts";
import { openDescriptors } from "./descriptor.ts";
import { NativeBuffer } from "./native-buffer.ts";
import { SeqpacketSocket } from "./seqpacket.ts";

test("a watch calls back while there is something to read, and not after it was closed", async () => {
  const [a, b] = SeqpacketSocket.pair();
  const buffer = NativeBuffer.alloc(16);
  const events = new EventTarget();
  const lengths: number[] = [];
  const watch = new DescriptorWatch(b.descriptor, () => {
    lengths.push(b.receive(buffer, 0, 16));
    events.dispatchEvent(new Event("packet"));
  });
  for (const length of [1, 2, 3]) {
    const packet = once(events, "packet");
    a.send(buffer, 0, length);
    await packet;
  }
  assert.deepEqual(lengths, [1, 2, 3]);
  a.send(buffer, 0, 4);
  a.send(buffer, 0, 5);
  await once(events, "packet");
  await once(events, "packet");
  assert.deepEqual(lengths, [1, 2, 3, 4, 5], "what is left is told again");
  watch.close();
  watch.close();
  a.send(buffer, 0, 6);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(lengths.length, 5);
  a.close();
  b.close();
  assert.deepEqual(openDescriptors(), []);
});

test("the end of a connection is told", async () => {
  const [a, b] = SeqpacketSocket.pair();
  const buffer = NativeBuffer.alloc(16);
  const ended = new Promise<number>((resolve) => {
    const watch = new DescriptorWatch(b.descriptor, () => {
      watch.close();
      resolve(b.receive(buffer, 0, 16));
    });
  });
  a.close();
  assert.equal(await ended, 0);
  b.close();
});

test("a closed descriptor cannot be watched", () => {
  const [a, b] = SeqpacketSocket.pair();
  a.close();
  b.close();
  assert.throws(() => new DescriptorWatch(b.descriptor, () => {}), { code: "EBADF" });
});

/** A process of its own: `body` runs with a watched pair of sockets. */
function child(body: string): { status: number | null; stdout: string; stderr: string } {
  const script = `
    import(${JSON.stringify(import.meta.resolve("./index.ts"))}).then(({ DescriptorWatch, NativeBuffer, SeqpacketSocket }) => {
      const [a, b] = SeqpacketSocket.pair();
      const buffer = NativeBuffer.alloc(16);
      ${body}
    });`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ["-e", script], { encoding: "utf8", timeout: 20_000 });
  return { status, stdout, stderr };
}

test("what a handler throws is an uncaught exception like any other, not an abort", () => {
  const { status, stderr } = child(`
    new DescriptorWatch(b.descriptor, () => { throw new Error("the handler's mistake"); });
    a.send(buffer, 0, 1);`);
  assert.equal(status, 1);
  assert.match(stderr, /the handler's mistake/);
});

test("a process may exit while it watches", () => {
  const { status, stdout } = child(`
    new DescriptorWatch(b.descriptor, () => { console.log("packet"); process.exit(7); });
    a.send(buffer, 0, 1);`);
  assert.equal(status, 7);
  assert.equal(stdout, "packet\n");
});

test("a watch keeps the process running until it is closed", () => {
  const { status, stdout } = child(`
    const watch = new DescriptorWatch(b.descriptor, () => { watch.close(); console.log("closed"); });
    setTimeout(() => a.send(buffer, 0, 1), 50).unref();`);
  assert.equal(status, 0);
  assert.equal(stdout, "closed\n");
});
