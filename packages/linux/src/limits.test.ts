import assert from "node:assert/strict";
import { test } from "node:test";
import { Descriptor, openDescriptorCount } from "./descriptor.ts";
import { descriptorLimit, raiseDescriptorLimit, setDescriptorLimit } from "./limits.ts";
import { NativeBuffer } from "./native-buffer.ts";
import { openEventDescriptor, Waker } from "./waker.ts";
import { read } from "./socket.ts";

test("the limit of descriptors is raised as far as allowed, and never lowered by raising", () => {
  const before = descriptorLimit();
  setDescriptorLimit(256);
  assert.equal(descriptorLimit().soft, 256);
  assert.equal(raiseDescriptorLimit(300).soft, 300);
  assert.equal(raiseDescriptorLimit(200).soft, 300);
  assert.equal(raiseDescriptorLimit().soft, before.hard);
  setDescriptorLimit(before.soft);
});

test("a waker counts up the eventfd it was made for, and goes nowhere once that is closed", () => {
  const eventfd = openEventDescriptor();
  const waker = new Waker(eventfd.fd);
  const buffer = NativeBuffer.alloc(8);
  assert.equal(read(eventfd, buffer, 0, 8), -11);
  waker.wake();
  waker.wake();
  assert.equal(read(eventfd, buffer, 0, 8), 8);
  assert.equal(buffer.bytes.readBigUInt64LE(), 2n);
  const { fd } = eventfd;
  eventfd.close();
  // Somebody else gets the number: waking must not write to it.
  const other = openEventDescriptor();
  assert.equal(other.fd, fd);
  waker.wake();
  assert.equal(read(other, buffer, 0, 8), -11);
  waker.close();
  waker.wake();
  other.close();
  assert.equal(openDescriptorCount(), 0);
  assert.ok(other instanceof Descriptor);
});
