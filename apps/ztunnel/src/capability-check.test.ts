import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { checkCapabilities } from "./capability-check.ts";

const MODULE = fileURLToPath(new URL("capability-check.ts", import.meta.url));

/** Runs the check in a process that lacks some capabilities; returns what it wrote to standard error. */
function withoutCapabilities(names: string): string {
  const program = `import(${JSON.stringify(MODULE)}).then((m) => m.checkCapabilities())`;
  const args = ["--bounding-set", names, "--inh-caps", names, "--", process.execPath, "-e", program];
  const result = spawnSync("setpriv", args, { encoding: "utf8", timeout: 30_000 });
  assert.equal(result.signal, null);
  return result.status === 0 ? "" : result.stderr;
}

test("a process with everything passes", () => {
  checkCapabilities();
});

for (const [names, what] of [
  ["-sys_admin", "enter"],
  ["-net_admin,-net_raw", "SO_MARK"],
] as const) {
  test(`a process with ${names} is told what it lacks`, () => {
    const error = withoutCapabilities(names);
    assert.match(error, /shared mode needs the capabilities SYS_ADMIN .* NET_ADMIN and NET_RAW/);
    assert.match(error, new RegExp(what));
  });
}
