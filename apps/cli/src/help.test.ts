import assert from "node:assert/strict";
import { test } from "node:test";
import { assertGolden } from "../test/golden.ts";
import { tulle } from "../test/run-cli.ts";

/** Every command's help, as a user reads it. What there is comes from the completions: a new command is covered, too. */

async function commandsBelow(...words: string[]): Promise<string[]> {
  const { out } = await tulle(["complete", "--", ...words, ""]);
  return out.split("\n").filter((word) => /^[a-z]/.test(word));
}

const COMMANDS: string[][] = [[]];
for (const command of await commandsBelow()) {
  COMMANDS.push([command]);
  // Of a command its completions are its arguments.
  if (command !== "ztunnel-config" && command !== "manifest") continue;
  for (const below of await commandsBelow(command)) COMMANDS.push([command, below]);
}

test("there are commands, also below others", () => {
  const known = COMMANDS.map((words) => words.join(" "));
  for (const name of ["", "install", "help", "manifest generate", "ztunnel-config all"])
    assert.ok(known.includes(name), name);
});

for (const words of COMMANDS) {
  test(["tulle", ...words, "--help"].join(" "), async () => {
    const { out, error, exitCode } = await tulle([...words, "--help"]);
    assert.deepEqual([error, exitCode], ["", 0]);
    assertGolden(`help/${["tulle", ...words].join("-")}.txt`, out);
  });
}

test("tulle help COMMAND is tulle COMMAND --help, and tulle without a command is tulle --help", async () => {
  for (const command of ["install", "ztunnel-config", "up"]) {
    assert.equal((await tulle(["help", command])).out, (await tulle([command, "--help"])).out);
  }
  assert.equal((await tulle(["help"])).out, (await tulle(["--help"])).out);
  assert.equal((await tulle([])).out, (await tulle(["--help"])).out);
});
