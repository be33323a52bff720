import assert from "node:assert/strict";
import { after, before } from "node:test";
import { until } from "@tulle/lab";
import type { BridgeCapture } from "../src/bridge-capture.ts";
import type { HeldConnection } from "../src/held-connection.ts";
import type { Load } from "../src/load.ts";
import { killPod } from "../src/outage.ts";
import { assertCut, assertHeld, assertNoneFailed, assertNoneServed, type Cell, type GetScene } from "./row.ts";
import { FAILING, nameOf } from "./scene.ts";

/** An application's pod: first killed with its sandbox, so that the same pod gets another network; then replaced. */
export function podRow(scene: GetScene, cell: Cell): void {
  let wire: BridgeCapture;
  let own: HeldConnection;
  let other: HeldConnection;
  let load: Load;
  let killedAt = 0;

  before(async () => {
    await scene().refresh();
    wire = await scene().watchWire();
    [own, other] = [await scene().hold("far"), await scene().hold("near")];
    load = await scene().requests("far");
    killedAt = Date.now();
    killPod(scene().cluster, scene().far);
  });
  after(async () => {
    for (const thing of [own, other, load, wire]) await thing?.[Symbol.asyncDispose]();
    await scene().allow("far");
  });

  cell("old connections", async () => {
    await until(() => own.failure, { what: "the end of the connection to the killed pod", timeoutMs: 30_000 });
    assertCut(own);
    await assertHeld(other);
  });

  cell("new connections", async (t) => {
    const former = scene().far;
    await until(async () => (await scene().cluster.pod(nameOf(former))).status.podIP !== former.status.podIP, {
      what: "another sandbox",
      timeoutMs: 60_000,
      intervalMs: 200,
    });
    await scene().refresh();
    assert.equal(scene().far.metadata.uid, former.metadata.uid);
    await scene().served(scene().url("far"));
    const last = await until(
      async () => {
        const { time = 0 } = load.failures.at(-1) ?? {};
        return Date.now() - time > 1000 && time;
      },
      { what: "a second without a failure", timeoutMs: 30_000 },
    );
    t.diagnostic(`refused until ${Math.round(last - killedAt)} ms after the kill`);
    const { ok, failed } = await load.stop();
    assert.ok(ok > 0);
    assert.ok(failed > 0, "nothing failed: the pod was not killed");
    load = await scene().requests("far");
    await until(async () => (await scene().ask(scene().url("far"))).startsWith("200 "), {
      what: "an answer",
      timeoutMs: 60_000,
    });
    await assertNoneFailed(load, t);
    await scene().nothingInPlaintext(wire);
  });

  cell("policy change", async () => {
    const former = nameOf(scene().far);
    load = await scene().requests("far");
    const { name } = scene().far.metadata;
    await scene().deny("far");
    await scene().takesEffect("far", true);
    await load.stop();
    // From here on nothing may be answered, by nobody who succeeds it.
    load = await scene().requests("far");
    await scene().cluster.kubectl(["delete", "pod", name, "-n", FAILING, "--now", "--wait=false"]);
    await until(async () => nameOf(await scene().running("far")) !== former, {
      what: "the successor",
      timeoutMs: 60_000,
    });
    await scene().refresh();
    await assertNoneServed(load);
  });

  cell("new pod", async () => {
    await scene().allow("far");
    await scene().takesEffect("far", false);
    await scene().served(scene().url(scene().far));
    for (const { restartCount } of scene().far.status.containerStatuses ?? []) assert.equal(restartCount, 0);
  });
}
