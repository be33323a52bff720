import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";
import { TlsContext } from "./index.ts";
import { shakeHands } from "./testing/link.ts";
import { nativeHeapBytes } from "./testing/native-heap.ts";
import type { StormInput, StormReport } from "./testing/handshake-storm.ts";
import { spiffe, TestCa } from "./testing/test-ca.ts";

const THREADS = 2;
const HANDSHAKES = 20_000;
/** RSS breathes with the garbage collector; the other test looks closer. */
const RSS_SLACK_BYTES = 8 << 20;
/** The smallest thing that OpenSSL leaves with us, a list of names, is 250 bytes; V8's own noise is about 30 a handshake. */
const LOST_BYTES = 120;
const WARM_UP = 400;
const MEASURED = 1600;

// Before the threads start: they collect their garbage too.
setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

test("20,000 handshakes on two threads, half of them broken off anywhere, leave nothing behind", async () => {
  const storms = Array.from({ length: THREADS }, (_, i) => {
    const workerData: StormInput = { seed: 20_000 + i, handshakes: HANDSHAKES / THREADS };
    return new Worker(new URL("./testing/handshake-storm.ts", import.meta.url), { workerData });
  });
  const reports = async () =>
    (await Promise.all(storms.map((storm) => once(storm, "message")))).map(([report]) => report as StormReport);
  const halves = await reports();
  assert.equal(sum(halves, "open"), HANDSHAKES / 4);
  const halfway = process.memoryUsage().rss;
  const ended = storms.map((storm) => once(storm, "exit"));
  for (const storm of storms) storm.postMessage("go on");
  const finals = await reports();
  const growth = process.memoryUsage().rss - halfway;
  await Promise.all(ended);

  for (const { live } of finals) assert.deepEqual(live, { context: 0, session: 0, output: 0, backlog: 0 });
  assert.equal(sum(finals, "open"), HANDSHAKES / 2);
  assert.ok(sum(finals, "failed") > HANDSHAKES / 10, `${sum(finals, "failed")} have failed`);
  assert.ok(sum(finals, "cutShort") > HANDSHAKES / 20, `${sum(finals, "cutShort")} were cut short`);
  assert.ok(growth < RSS_SLACK_BYTES, `the second half grew by ${(growth / 2 ** 20).toFixed(1)} MiB`);
});

test("a handshake gives all its native memory back, done or refused", () => {
  const ca = TestCa.create();
  const client = TlsContext.create(ca.workload("client"));
  const server = TlsContext.create(ca.workload("server"));
  const run = (count: number) => {
    for (let i = 0; i < count; i++) {
      const expected = spiffe(i % 4 === 0 ? "somebody-else" : "server");
      const c = client.client({ kind: "identities", uris: [expected] });
      const s = server.server({ kind: "trust-domain", trustDomain: "cluster.local" });
      shakeHands(c, s);
      assert.equal(c.state, i % 4 === 0 ? "failed" : "open");
      c.close();
      s.close();
    }
    collectGarbage();
    return nativeHeapBytes();
  };
  const before = run(WARM_UP);
  const lost = (run(MEASURED) - before) / MEASURED;
  client.close();
  server.close();
  assert.ok(lost < LOST_BYTES, `${lost.toFixed(0)} bytes are lost in each handshake`);
});

function sum(reports: readonly StormReport[], field: "open" | "failed" | "cutShort"): number {
  return reports.reduce((total, report) => total + report[field], 0);
}
