import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "./config.ts";

test("defaults: the current directory, the name local, no offset", () => {
  assert.deepEqual(parseConfig([], "/here"), {
    directory: "/here",
    name: "local",
    portOffset: 0,
    readyTimeoutMs: 120_000,
  });
});

test("a relative directory is one of the current directory's", () => {
  assert.equal(parseConfig(["samples/bookinfo"], "/here").directory, "/here/samples/bookinfo");
  assert.equal(parseConfig(["/there"], "/here").directory, "/there");
});

const wrong: readonly (readonly [args: readonly string[], expected: RegExp])[] = [
  [["a", "b"], /one directory is enough, not 2/],
  [["--name", "Much-too-long"], /--name Much-too-long: use 1 to 8/],
  [["--port-offset", "-1"], /port-offset/],
  [["--ready-timeout", "soon"], /--ready-timeout soon: use a whole number from 1 to 3600/],
  [["--colour"], /--colour/],
];

for (const [args, expected] of wrong) {
  test(`${args.join(" ")} is refused`, () => assert.throws(() => parseConfig(args, "/here"), expected));
}
