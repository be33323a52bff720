import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { installDeterministicTls, TlsContext } from "./index.ts";
import type { DeterministicReport } from "./testing/deterministic-run.ts";
import { TestCa } from "./testing/test-ca.ts";

/** The method of randomness is the process's, so each run is a process. */
const SCRIPT = fileURLToPath(new URL("./testing/deterministic-run.ts", import.meta.url));
/** Far from now, so that a certificate of then is only accepted by the simulated clock. */
const THEN = Date.UTC(2001, 8, 9);

async function run(seed: number): Promise<DeterministicReport> {
  const { stdout } = await promisify(execFile)(process.execPath, [SCRIPT, String(seed), String(THEN)], {
    timeout: 30_000,
  });
  return JSON.parse(stdout) as DeterministicReport;
}

test("a seed gives the same bytes on every run, another seed others, and the clock is the simulation's", async () => {
  const [one, two] = await Promise.all([run(1), run(1)]);
  for (const { outcome } of [one.first, one.repeated, one.other]) {
    assert.deepEqual(
      outcome,
      Array.from({ length: 6 }, () => "open"),
    );
  }
  assert.equal(one.first.hash, two.first.hash, "in another process");
  assert.equal(one.first.hash, one.repeated.hash, "in the same process");
  assert.equal(one.other.hash, two.other.hash);
  assert.notEqual(one.first.hash, one.other.hash);
  assert.match(one.refused, /installed already/);
  assert.match(one.alive, /left TLS objects alive: context,1/);
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
