import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig, type UpConfig } from "./config.ts";

test("defaults: the current directory, the name local, no offset", () => {
  assert.deepEqual(parseConfig([], "/here"), {
    command: "up",
    directory: "/here",
    name: "local",
    portOffset: 0,
    readyTimeoutMs: 120_000,
  });
});

test("a relative directory is one of the current directory's", () => {
  const directoryOf = (...args: string[]) => (parseConfig(args, "/here") as UpConfig).directory;
  assert.equal(directoryOf("samples/bookinfo"), "/here/samples/bookinfo");
  assert.equal(directoryOf("up", "samples/bookinfo"), "/here/samples/bookinfo");
  assert.equal(directoryOf("/there"), "/there");
});

test("down names the mesh to end, and forgets it only when told so", () => {
  assert.deepEqual(parseConfig(["down"], "/here"), { command: "down", name: "local", purge: false });
  const purged = parseConfig(["down", "--name", "demo", "--purge"], "/here");
  assert.deepEqual(purged, { command: "down", name: "demo", purge: true });
});

const wrong: readonly (readonly [args: readonly string[], expected: RegExp])[] = [
  [["a", "b"], /one directory is enough, not 2/],
  [["--name", "Much-too-long"], /--name Much-too-long: use 1 to 8/],
  [["--port-offset", "-1"], /port-offset/],
  [["--ready-timeout", "soon"], /--ready-timeout soon: use a whole number from 1 to 3600/],
  [["--colour"], /--colour/],
  [["down", "somewhere"], /somewhere/],
  [["down", "--name", "../x"], /--name \.\.\/x: use 1 to 8/],
];

for (const [args, expected] of wrong) {
  test(`${args.join(" ")} is refused`, () => assert.throws(() => parseConfig(args, "/here"), expected));
}
