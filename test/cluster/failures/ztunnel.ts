import assert from "node:assert/strict";
import { after, before } from "node:test";
import { until } from "@tulle/lab";
import type { BridgeCapture } from "../src/bridge-capture.ts";
import { containerPid, type PodObject } from "../src/containers.ts";
import type { HeldConnection } from "../src/held-connection.ts";
import type { Load } from "../src/load.ts";
import { MESH_NAMESPACE } from "../src/mesh.ts";
import { killContainer, Outage } from "../src/outage.ts";
import { assertCut, assertHeld, assertNoneServed, type Cell, type GetScene, told, undo } from "./row.ts";
import { AT_ONCE_MS } from "./scene.ts";

/** A second or two on a quiet machine: kubelet notices, Node starts, the snapshot comes. Each takes long on a busy one. */
const RECOVERY_LIMIT_MS = 30_000;

/** The ztunnel of n1: it crashes once; then it is kept from coming back. */
export function ztunnelRow(scene: GetScene, cell: Cell): void {
  let wire: BridgeCapture;
  let carried: HeldConnection;
  let elsewhere: HeldConnection;
  let load: Load;
  let outage: Outage | undefined;
  let held: PodObject;
  let killedAt = 0;

  before(async () => {
    await scene().refresh();
    wire = await scene().watchWire();
    carried = await scene().hold("far");
    elsewhere = await scene().hold("far", scene().peer);
    load = await scene().requests("far", 50);
    killedAt = Date.now();
    killContainer(scene().cluster, await scene().mesh.ztunnel(1));
  });
  after(() =>
    undo([
      () => scene().cluster.rollout("ds/ztunnel", MESH_NAMESPACE),
      () => scene().removePod("held-by-ztunnel"),
      () => scene().allow("far"),
      () => scene().allow("near"),
      () => wire?.[Symbol.asyncDispose](),
      () => load?.[Symbol.asyncDispose](),
      () => elsewhere?.[Symbol.asyncDispose](),
      () => carried?.[Symbol.asyncDispose](),
      () => outage?.end(),
    ]),
  );

  cell("old connections", async () => {
    await until(() => carried.failure, { what: "the end of the connection", timeoutMs: 30_000 });
    assertCut(carried);
    await assertHeld(elsewhere);
  });

  cell("new connections", async (t) => {
    const back = await until(
      async () => {
        const { time = 0 } = load.failures.at(-1) ?? {};
        return time > 0 && Date.now() - time > 2000 && time;
      },
      { what: "failures, and two seconds without one", timeoutMs: 2 * RECOVERY_LIMIT_MS },
    );
    const { ok, failed } = await load.stop();
    t.diagnostic(
      `${failed} of ${ok + failed} new connections failed, until ${Math.round(back - killedAt)} ms after the kill`,
    );
    assert.ok(ok > 0);
    assert.ok(failed > 0, "nothing failed: ztunnel was not killed");
    assert.ok(back - killedAt < RECOVERY_LIMIT_MS, `it took ${back - killedAt} ms`);
    // Refused by the kernel, or cut with the process: nobody waits for a time-out.
    const strange = load.failures.filter(
      ({ kind, error }) => !/refused|reset|EOF|broken pipe/.test(`${kind} ${error}`),
    );
    assert.deepEqual(strange.map(told), []);
    await scene().nothingInPlaintext(wire);
  });

  cell("policy change", async (t) => {
    wire = await scene().watchWire();
    const { cluster, mesh } = scene();
    const ztunnel = await until(
      async () => {
        const pod = await mesh.ztunnel(1);
        // Throws while the API still tells of the container that has crashed.
        containerPid(cluster.cluster.settings, pod);
        return pod;
      },
      { what: "ztunnel's new container in the API", timeoutMs: 60_000 },
    );
    outage = Outage.start(cluster, ztunnel);
    await scene().deny("far");
    // On n2, where ztunnel runs.
    const start = performance.now();
    await until(
      () =>
        scene()
          .refused(scene().url("far"), scene().peer)
          .then(() => true),
      { what: "far to refuse", timeoutMs: 30_000 },
    );
    const took = performance.now() - start;
    t.diagnostic(`in force on the other node after ${Math.round(took)} ms`);
    assert.ok(took < AT_ONCE_MS, `it took ${Math.round(took)} ms`);
    await scene().deny("near");
    held = await scene().newPod({ name: "held-by-ztunnel", node: 1 });
    await scene().isHeldBack(held, /node agent could not enrol .*ztunnel/);
    assert.ok(await scene().hasEvent(scene().near, "CaptureLost", /^ZtunnelDisconnected: /));

    load = await scene().requests("near");
    await outage.end();
    // Neither alone is enough: right after a deletion the rollout's status is still the old one.
    await cluster.rollout("ds/ztunnel", MESH_NAMESPACE);
    await mesh.ztunnel(1);
    await scene().served(scene().url("peer"));
    await assertNoneServed(load);
    await scene().allow("near");
    await scene().allow("far");
    await scene().takesEffect("near", false);
    await scene().takesEffect("far", false);
  });

  cell("new pod", async () => {
    const pod = await scene().running("held-by-ztunnel");
    assert.equal(pod.metadata.uid, held.metadata.uid);
    await scene().served(scene().url(pod));
    await scene().served(scene().url("far"), pod);
    await scene().nothingInPlaintext(wire);
  });
}
