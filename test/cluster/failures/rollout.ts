import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "@tulle/lab";
import { MESH_NAMESPACE } from "../src/mesh.ts";
import type { GetScene } from "./row.ts";
import { told } from "./row.ts";

/** Both nodes in turn: start, readiness, and the drain of what is open. */
const ROLLOUT_LIMIT_MS = 240_000;
/** A second, from each side. */
const RATE = 50;
/** What is refused or cut fails at once; only a machine that is far too busy takes long. */
const PATIENCE_MS = 30_000;

/** ztunnel is replaced on every node, while pods of both nodes open connections to each other. */
export function rolloutTest(scene: GetScene): void {
  test("a rollout of ztunnel fails no new connection", async (t) => {
    const { cluster, mesh, caller, peer } = scene();
    const before = await Promise.all([mesh.ztunnel(1), mesh.ztunnel(2)]);
    await using wire = await scene().watchWire();
    const connections = { rate: RATE, newShare: 1, timeoutMs: PATIENCE_MS };
    await using there = await cluster.startLoad(caller, { url: scene().url("far"), ...connections });
    await using here = await cluster.startLoad(peer, { url: scene().url("near"), ...connections });
    await using held = await scene().hold("far");
    const start = Date.now();
    await cluster.kubectl(["rollout", "restart", "ds/ztunnel", "-n", MESH_NAMESPACE]);
    await cluster.rollout("ds/ztunnel", MESH_NAMESPACE, ROLLOUT_LIMIT_MS);
    // The old ones may still drain.
    await until(
      async () => {
        const names = before.map(({ metadata }) => metadata.name);
        const gone = await Promise.all(
          names.map((name) => cluster.get(`/api/v1/namespaces/${MESH_NAMESPACE}/pods/${name}`)),
        );
        return gone.every((pod) => pod === undefined);
      },
      { what: "the old ztunnels to be gone", timeoutMs: ROLLOUT_LIMIT_MS, intervalMs: 500 },
    );
    t.diagnostic(`rolled out in ${Date.now() - start} ms`);
    const end = await held.stop();
    t.diagnostic(
      end === undefined
        ? "the kept connection went on"
        : `the kept connection ended after ${Math.round(end.time - start)} ms: ${end.error}`,
    );
    for (const load of [there, here]) {
      const { sent, failed, skipped, p50Ms, p99Ms, maxMs, lateMaxMs } = await load.stop();
      t.diagnostic(`${sent} new connections: ${p50Ms} ms median, ${p99Ms} p99, ${maxMs} longest, ${lateMaxMs} late`);
      assert.deepEqual(load.failures.slice(0, 5).map(told), []);
      assert.equal(failed + skipped, 0);
    }
    await scene().nothingInPlaintext(wire);
  });
}
