import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { installDeterministicTls, TlsContext } from "./index.ts";
import { TestCa } from "./testing/test-ca.ts";

/** The method of randomness is the process's, so each run is a process. */
const SCRIPT = fileURLToPath(new URL("./testing/deterministic-run.ts", import.meta.url));
/** Far from now, so that a certificate of then is only accepted by the simulated clock. */
const THEN = Date.UTC(2001, 8, 9);

async function run(seed: number, wall = THEN): Promise<{ hash: string; states: string[]; again: string }> {
  const { stdout } = await promisify(execFile)(process.execPath, [SCRIPT, String(seed), String(wall)], {
    timeout: 30_000,
  });
  return JSON.parse(stdout) as { hash: string; states: string[]; again: string };
}

test("a seed gives the same bytes on every run, another seed others, and the clock is the simulation's", async () => {
  const [first, second, other] = await Promise.all([run(1), run(1), run(2)]);
  assert.deepEqual(first.states, Array.from({ length: 3 }, () => ["open", "open", "", ""]).flat());
  assert.equal(first.hash, second.hash);
  assert.notEqual(first.hash, other.hash);
  assert.match(first.again, /installed already/);
});

test("it is refused once TLS was used, and on any other thread", async () => {
  TlsContext.create(TestCa.create().workload("a")).close();
  assert.throws(() => installDeterministicTls(1, () => 0), /before the first TLS context/);

  const source = `import { installDeterministicTls } from ${JSON.stringify(import.meta.resolve("./index.ts"))};
    import { parentPort } from "node:worker_threads";
    try { installDeterministicTls(1, () => 0); parentPort.postMessage("installed"); }
    catch (error) { parentPort.postMessage(error.message); }`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`));
  const [message] = (await once(worker, "message")) as [string];
  assert.match(message, /main thread/);
  await worker.terminate();
});
