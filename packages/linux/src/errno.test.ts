import assert from "node:assert/strict";
import { constants } from "node:os";
import { test } from "node:test";
import { Errno, errnoName, errnoText, orThrow, SystemError } from "./errno.ts";

test("the numbers are this system's", () => {
  const numbers: Readonly<Record<string, number>> = constants.errno;
  let known = 0;
  for (const [name, number] of Object.entries(Errno)) {
    if (numbers[name] === undefined) continue;
    assert.equal(number, numbers[name], name);
    known++;
  }
  assert.ok(known > 30);
});

test("names and texts are found for either sign, and unknown numbers are named by their number", () => {
  assert.equal(errnoName(-111), "ECONNREFUSED");
  assert.equal(errnoName(111), "ECONNREFUSED");
  assert.equal(errnoText(-111), "connection refused");
  assert.equal(errnoName(-4000), "errno 4000");
  assert.equal(errnoText(4000), "errno 4000");
});

test("a SystemError says what was tried and why it failed", () => {
  const error = new SystemError("bind [::]:15001", -98);
  assert.equal(error.message, "bind [::]:15001: address already in use (EADDRINUSE)");
  assert.equal(error.code, "EADDRINUSE");
  assert.equal(error.errno, 98);
  assert.equal(error.side, "internal");
  assert.equal(orThrow(7, "x"), 7);
  assert.throws(() => orThrow(-13, "open x"), { code: "EACCES", operation: "open x" });
});
