import assert from "node:assert/strict";
import { closeSync, fstatSync, openSync } from "node:fs";
import { test } from "node:test";
import { Descriptor, duplicateNumber, openDescriptorCount, openDescriptors } from "./descriptor.ts";

const open = () => new Descriptor(openSync("/dev/null", "r"), "null");

test("a descriptor is closed once, and its number is nobody's afterwards", () => {
  const descriptor = open();
  const { fd } = descriptor;
  descriptor.close();
  assert.equal(descriptor.fd, -1);
  assert.throws(() => fstatSync(fd), { code: "EBADF" });
  // The number goes to somebody else: closing again must not touch it.
  const other = openSync("/dev/null", "r");
  assert.equal(other, fd);
  descriptor.close();
  fstatSync(other);
  closeSync(other);
});

test("the ledger knows what is open, by kind", () => {
  assert.equal(openDescriptorCount(), 0);
  {
    using a = open();
    using b = duplicateNumber(a.fd, "copy");
    assert.deepEqual(openDescriptors().sort(), [`copy ${b.fd}`, `null ${a.fd}`].sort());
    assert.equal(openDescriptorCount(), 2);
  }
  assert.deepEqual(openDescriptors(), []);
});

test("a number has one owner", () => {
  using descriptor = open();
  assert.throws(() => new Descriptor(descriptor.fd, "second"), /owned already/);
  assert.throws(() => new Descriptor(-1, "none"), RangeError);
  assert.throws(() => new Descriptor(1.5, "none"), RangeError);
});

test("a descriptor that was released stays open and belongs to the caller", () => {
  const descriptor = open();
  const fd = descriptor.release();
  assert.equal(descriptor.release(), -1);
  descriptor.close();
  fstatSync(fd);
  closeSync(fd);
  assert.equal(openDescriptorCount(), 0);
});

test("a closed descriptor cannot be duplicated", () => {
  const descriptor = open();
  descriptor.close();
  assert.throws(() => descriptor.duplicate("copy"), { code: "EBADF" });
});
