import assert from "node:assert/strict";
import { test } from "node:test";
import { assertGolden } from "../../test/golden.ts";
import { tulle } from "../../test/run-cli.ts";

for (const shell of ["bash", "zsh", "fish"]) {
  test(`completion ${shell} prints a script`, async () => {
    assertGolden(`completion/${shell}.txt`, (await tulle(["completion", shell])).out);
  });
}

test("another shell is refused", async () => {
  const { error, exitCode } = await tulle(["completion", "tcsh"]);
  assert.notEqual(exitCode, 0);
  assert.match(error, /"tcsh" is not one of bash, zsh, fish/);
});

test("words are completed", async () => {
  const propose = async (...words: string[]) =>
    (await tulle(["complete", "--", ...words])).out.split("\n").slice(0, -1);
  assert.ok((await propose("")).includes("install"));
  assert.deepEqual(await propose("unin"), ["uninstall"]);
  assert.deepEqual(await propose("ztunnel-config", "wo"), ["workload"]);
  assert.ok((await propose("install", "--d")).includes("--dry-run"));
  assert.ok(!(await propose("")).includes("complete"));
});
