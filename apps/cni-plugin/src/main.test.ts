import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { createTestNode } from "./test-doubles.ts";

const MAIN = join(import.meta.dirname, "main.ts");

interface Ended {
  readonly code: number | null;
  readonly output: string;
}

/** The plugin as a process of its own, fed in pieces. */
function run(environment: Readonly<Record<string, string>>, pieces: readonly string[]): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN], {
      env: { CNI_CONTAINERID: "c", CNI_NETNS: "/var/run/netns/x", ...environment },
      timeout: 30_000,
    });
    let output = "";
    child.stdout.on("data", (chunk) => (output += String(chunk)));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
    // A plugin that has read enough hangs up.
    child.stdin.on("error", () => undefined);
    for (const piece of pieces) child.stdin.write(piece);
    child.stdin.end();
  });
}

const ARGS = { CNI_COMMAND: "ADD", CNI_ARGS: "K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop" };

test("several at a time, each reading its configuration in pieces", async () => {
  await using node = createTestNode();
  await node.agent(200);
  const previous = { cniVersion: "1.0.0", ips: [], padding: "x".repeat(200_000) };
  const text = JSON.stringify({ cniVersion: "1.0.0", cni_agent_run_dir: node.runDir, prevResult: previous });
  const pieces = text.match(/.{1,50000}/g) ?? [];
  const ended = await Promise.all(Array.from({ length: 4 }, () => run(ARGS, pieces)));
  for (const { code, output } of ended) {
    assert.equal(code, 0, output);
    assert.deepEqual(JSON.parse(output), previous);
  }
  assert.equal(node.asked.length, 4);
});

test("an error ends with a code and says what it is on standard output", async () => {
  const { code, output } = await run(ARGS, ["{"]);
  assert.equal(code, 1);
  assert.equal((JSON.parse(output) as { code: number }).code, 6);
});

test("more than a mebibyte is no configuration", async () => {
  const { code, output } = await run(ARGS, [`{"cniVersion":"1.0.0","x":"${"x".repeat(2_000_000)}"}`]);
  assert.equal(code, 1);
  assert.equal((JSON.parse(output) as { code: number }).code, 6);
});
