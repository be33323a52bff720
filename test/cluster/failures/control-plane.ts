import assert from "node:assert/strict";
import { after, before } from "node:test";
import { until } from "@tulle/lab";
import type { BridgeCapture } from "../src/bridge-capture.ts";
import type { PodObject } from "../src/containers.ts";
import type { HeldConnection } from "../src/held-connection.ts";
import type { Load } from "../src/load.ts";
import { MESH_NAMESPACE } from "../src/mesh.ts";
import { Outage } from "../src/outage.ts";
import { assertHeld, assertNoneFailed, type Cell, type GetScene, undo } from "./row.ts";
import { FAILING, nameOf } from "./scene.ts";

/** istiod: kept from coming back while pods start and policy changes. */
export function controlPlaneRow(scene: GetScene, cell: Cell): void {
  let wire: BridgeCapture;
  let held: HeldConnection;
  let load: Load;
  let outage: Outage;

  before(async () => {
    await scene().refresh();
    wire = await scene().watchWire();
    held = await scene().hold("far");
    load = await scene().requests("far");
    outage = Outage.start(scene().cluster, await scene().mesh.controlPlane());
  });
  after(() =>
    undo([
      () => scene().cluster.rollout("deploy/istiod", MESH_NAMESPACE),
      () => scene().removePod("unknown-to-all"),
      () => scene().cluster.kubectl(["scale", "deploy/peer", "--replicas=1", "-n", FAILING]),
      () => scene().allow("near"),
      () => wire?.[Symbol.asyncDispose](),
      () => load?.[Symbol.asyncDispose](),
      () => held?.[Symbol.asyncDispose](),
      () => outage?.end(),
    ]),
  );

  cell("new pod", async (t) => {
    // One of an identity that nobody has a certificate for, and one of an identity that its ztunnel has.
    const stranger = await scene().newPod({ name: "unknown-to-all", node: 1 });
    await scene().cluster.kubectl(["scale", "deploy/peer", "--replicas=2", "-n", FAILING]);
    const second = await until(
      async () => (await scene().cluster.pods("app=peer", FAILING)).find((pod) => nameOf(pod) !== nameOf(scene().peer)),
      { what: "another pod of peer", timeoutMs: 60_000 },
    );
    const pods: PodObject[] = [];
    for (const { metadata } of [stranger, second]) {
      const name = `${metadata.namespace}/${metadata.name}`;
      pods.push(
        await until(
          async () => {
            const pod = await scene().cluster.pod(name);
            return pod.status.containerStatuses?.[0]?.ready === true && scene().mesh.waitForCaptured(name);
          },
          { what: `${name} to be Ready and captured`, timeoutMs: 120_000, intervalMs: 200 },
        ),
      );
    }
    // Without the marker: to the caller's ztunnel the address is any address, and what is sent there is refused at its end.
    await Promise.all(
      pods.flatMap((pod) => [
        scene().refused(scene().url("far"), pod),
        scene().refused(`http://${pod.status.podIP}:8080/`),
      ]),
    );

    await scene().deny("near");
    await scene().policyHolds();
    assert.match(await scene().ask(scene().url("near")), /^200 /);
    await outage.end();
    const start = performance.now();
    // Neither alone is enough: right after a deletion the rollout's status is still the old one.
    await scene().cluster.rollout("deploy/istiod", MESH_NAMESPACE);
    await scene().mesh.controlPlane();
    for (const pod of pods) {
      await scene().served(scene().url("far"), pod);
      await scene().served(scene().url(pod));
    }
    t.diagnostic(`served ${Math.round(performance.now() - start)} ms after the killed pod was gone`);
    for (const { metadata } of pods) {
      const { status } = await scene().cluster.pod(`${metadata.namespace}/${metadata.name}`);
      assert.equal(status.containerStatuses?.[0]?.restartCount, 0);
    }
  });

  cell("policy change", async () => {
    await scene().takesEffect("near", true);
    await scene().allow("near");
    await scene().takesEffect("near", false);
    await scene().policyHolds();
  });

  cell("old connections", () => assertHeld(held));

  cell("new connections", async (t) => {
    await assertNoneFailed(load, t);
    await scene().nothingInPlaintext(wire);
  });
}
