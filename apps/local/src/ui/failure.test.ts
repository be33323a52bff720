import assert from "node:assert/strict";
import { test } from "node:test";
import { StoreError } from "@tulle/store";
import { UserError } from "../user-error.ts";
import { failureText } from "./failure.ts";

test("what the user can mend is told without a stack, with what to do next", () => {
  assert.equal(failureText(new UserError("no room", "make some")), "no room\n  next: make some");
  assert.equal(failureText(new UserError("needs root: run it with sudo")), "needs root: run it with sudo");
  const store = failureText(new StoreError("INVALID", "cannot use the state folder /x: EROFS"));
  assert.match(store, /^cannot use the state folder \/x: EROFS\n {2}next: mend what it names/);
});

test("what nobody foresaw keeps its stack, and is to be reported", () => {
  const text = failureText(new TypeError("x is undefined"));
  assert.match(text, /^TypeError: x is undefined\n {4}at .*\n {2}next: this is a fault of tulle: please report it/s);
  assert.match(failureText("odd"), /^'odd'\n {2}next: this is a fault of tulle/);
});
