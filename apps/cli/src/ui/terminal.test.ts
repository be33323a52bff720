import assert from "node:assert/strict";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { assertGolden } from "../../test/golden.ts";
import { memoryCluster } from "../../test/memory-cluster.ts";
import { type Surroundings, tulle } from "../../test/run-cli.ts";
import { shopObjects } from "../../test/shop.ts";
import { terminalProgress } from "./progress.ts";
import { styleFor } from "./style.ts";

/** What a terminal gets, and nobody else: colours, and a line that is rewritten. */

const TERMINAL: Surroundings = { isTTY: true };
const COLOURLESS: readonly (readonly [what: string, surroundings: Surroundings])[] = [
  ["a file or a pipe", {}],
  ["NO_COLOR", { isTTY: true, env: { NO_COLOR: "1" } }],
  ["a terminal that knows no colours", { isTTY: true, env: { TERM: "dumb" } }],
];

const status = (surroundings: Surroundings, ...args: string[]) =>
  tulle(args, { connect: () => memoryCluster(shopObjects({ agent: true })) }, surroundings);

test("a terminal gets ticks and crosses in colour", async () => {
  assertGolden("terminal/status.txt", (await status(TERMINAL, "status")).out);
  assertGolden("terminal/check.txt", (await status(TERMINAL, "check")).out);
});

for (const [what, surroundings] of COLOURLESS) {
  test(`${what} gets the same text without colour`, async () => {
    for (const command of ["status", "check"]) {
      const { out } = await status(surroundings, command);
      assert.ok(!out.includes("\x1b"), out);
      const coloured = (await status(TERMINAL, command)).out;
      assert.equal(out, stripVTControlCharacters(coloured));
    }
  });
}

test("an empty NO_COLOR is none, and data has no colour even on a terminal", async () => {
  assert.ok((await status({ isTTY: true, env: { NO_COLOR: "" } }, "status")).out.includes("\x1b[32m"));
  assert.ok(!(await status(TERMINAL, "status", "-o", "json")).out.includes("\x1b"));
  assert.equal(styleFor({ isTTY: true }).bad("x"), "\x1b[31mx\x1b[0m");
});

function recorded(surroundings: Surroundings): string {
  let text = "";
  const out = { isTTY: surroundings.isTTY === true, write: (piece: string) => (text += piece) };
  const progress = terminalProgress(out, surroundings.env);
  progress.working("applying");
  progress.working("waiting");
  progress.done("applied");
  progress.warn("careful");
  progress.failed("broken");
  return text;
}

test("on a terminal the line of what is being done is rewritten; elsewhere each finished step is a line", () => {
  const clear = "\r\x1b[2K";
  const plain = "✔ applied\n! careful\n✘ broken\n";
  assert.equal(recorded({}), plain);
  assert.equal(
    recorded({ isTTY: true, env: { NO_COLOR: "1" } }),
    `${clear}… applying${clear}… waiting${clear}${plain}`,
  );
  assert.equal(
    recorded(TERMINAL),
    `${clear}… applying${clear}… waiting${clear}\x1b[32m✔\x1b[0m applied\n! careful\n\x1b[31m✘\x1b[0m broken\n`,
  );
});
