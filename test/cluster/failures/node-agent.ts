import assert from "node:assert/strict";
import { after, before } from "node:test";
import { until } from "@tulle/lab";
import type { BridgeCapture } from "../src/bridge-capture.ts";
import type { HeldConnection } from "../src/held-connection.ts";
import type { Load } from "../src/load.ts";
import { MESH_NAMESPACE } from "../src/mesh.ts";
import { Outage } from "../src/outage.ts";
import { assertHeld, assertNoneFailed, type Cell, type GetScene, undo } from "./row.ts";

/** The agent of n1. */
export function nodeAgentRow(scene: GetScene, cell: Cell): void {
  let wire: BridgeCapture;
  let held: HeldConnection;
  let load: Load;
  let outage: Outage;

  before(async () => {
    await scene().refresh();
    wire = await scene().watchWire();
    held = await scene().hold("far");
    load = await scene().requests("far");
    outage = Outage.start(scene().cluster, await scene().mesh.nodeAgent(1));
  });
  after(() =>
    undo([
      () => scene().cluster.rollout("ds/istio-cni-node", MESH_NAMESPACE),
      () => scene().removePod("held-by-plugin"),
      () => scene().removePod("passed-by-plugin", "default"),
      () => wire?.[Symbol.asyncDispose](),
      () => load?.[Symbol.asyncDispose](),
      () => held?.[Symbol.asyncDispose](),
      () => outage?.end(),
    ]),
  );

  cell("policy change", async (t) => {
    await scene().policyHolds();
    t.diagnostic(`seen after ${Math.round(await scene().policyTakesEffectAtOnce("near"))} ms`);
  });

  cell("new pod", async () => {
    const waiting = await scene().newPod({ name: "held-by-plugin", node: 1 });
    const passing = await scene().newPod({ name: "passed-by-plugin", namespace: "default", node: 1 });
    await scene().isHeldBack(
      waiting,
      /held-by-plugin\S* belongs to the mesh and would start outside of it: no node agent/,
    );
    const outside = await until(
      async () => {
        const pod = await scene().cluster.pod(`default/${passing.metadata.name}`);
        return pod.status.containerStatuses?.[0]?.ready === true && pod;
      },
      { what: "the pod outside of the mesh to start", timeoutMs: 120_000, intervalMs: 200 },
    );
    assert.equal(outside.metadata.annotations?.["ambient.istio.io/redirection"], undefined);

    await outage.end();
    const pod = await scene().running("held-by-plugin");
    assert.equal(pod.metadata.uid, waiting.metadata.uid);
    await scene().served(scene().url(pod));
    await scene().served(scene().url("far"), pod);
  });

  cell("old connections", () => assertHeld(held));

  cell("new connections", async (t) => {
    await assertNoneFailed(load, t);
    await scene().nothingInPlaintext(wire);
  });
}
