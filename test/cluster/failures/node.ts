import assert from "node:assert/strict";
import { after, before } from "node:test";
import { BOOT_ID_ANNOTATION } from "@tulle/base";
import { until } from "@tulle/lab";
import type { BridgeCapture } from "../src/bridge-capture.ts";
import type { PodObject } from "../src/containers.ts";
import type { HeldConnection } from "../src/held-connection.ts";
import type { Load } from "../src/load.ts";
import { MESH_NAMESPACE } from "../src/mesh.ts";
import { assertCut, assertHeld, assertNoneFailed, assertNoneServed, type Cell, type GetScene, undo } from "./row.ts";
import type { Scene } from "./scene.ts";

/** PING of the tunnel's connection: at most 20 s; the rest is for a busy machine. Less than a held connection's patience. */
const CUT_LIMIT_MS = 45_000;
/** Kubernetes takes the pods of a lost node out of services once it has given it up. */
const GONE_LIMIT_MS = 120_000;
/** Among so many answers in a row is one of each endpoint, but for one time in a thousand. */
const ANSWERS = 10;
const BACK_LIMIT_MS = 120_000;

/** n2 loses its power, and gets it back: a fresh boot id, an empty /run, its disk as it was. */
export function nodeRow(scene: GetScene, cell: Cell): void {
  let wire: BridgeCapture;
  let lost: HeldConnection;
  let kept: HeldConnection;
  let load: Load;
  let denied: Load;
  let former: readonly PodObject[];
  let stoppedAt = 0;
  let off = false;

  const on = async () => {
    if (off) await scene().cluster.nodeStart(2);
    off = false;
  };

  before(async () => {
    await scene().refresh();
    await controlPlaneOnFirstNode(scene());
    // A ztunnel that has lost its control plane looks for the new one now and then: here it has found it.
    await scene().policyTakesEffect("near");
    const { far, peer } = scene();
    former = [far, peer];
    lost = await scene().hold("far");
    kept = await scene().hold("caller", scene().near);
    off = true;
    await scene().cluster.nodeStop(2);
    stoppedAt = Date.now();
  });
  after(() =>
    undo([
      () => scene().removePod("elsewhere"),
      () => scene().allow("far"),
      () => wire?.[Symbol.asyncDispose](),
      () => denied?.[Symbol.asyncDispose](),
      () => load?.[Symbol.asyncDispose](),
      () => kept?.[Symbol.asyncDispose](),
      () => lost?.[Symbol.asyncDispose](),
      on,
    ]),
  );

  cell("policy change", async (t) => {
    t.diagnostic(`seen on the other node after ${Math.round(await scene().policyTakesEffectAtOnce("near"))} ms`);
    // For the node's next boot.
    await scene().deny("far");
  });

  cell("new pod", async () => {
    await scene().cluster.waitForNode(2, "Unknown");
    await scene().newPod({ name: "elsewhere" });
    const pod = await scene().running("elsewhere");
    assert.equal(pod.spec.nodeName, "n1");
    await scene().served(scene().url(pod));
  });

  cell("old connections", async (t) => {
    const { time } = await until(() => lost.failure, {
      what: "the end of the connection to the lost node",
      timeoutMs: CUT_LIMIT_MS,
    });
    t.diagnostic(`cut ${Math.round(time - stoppedAt)} ms after the node was lost`);
    assert.ok(time - stoppedAt < CUT_LIMIT_MS, `cut after ${time - stoppedAt} ms`);
    assertCut(lost);
    await assertHeld(kept);
  });

  cell("new connections", async (t) => {
    // As soon as Kubernetes has taken the lost pod out of the service.
    await until(
      async () => {
        for (let i = 0; i < ANSWERS; i++) await scene().ask(scene().url("either"), scene().caller, "8s");
        return true;
      },
      { what: "the service to lead to pods that answer", timeoutMs: GONE_LIMIT_MS },
    );
    load = await scene().requests("either");
    await until(async () => (await scene().ask(scene().url("either"))).startsWith("200 "), {
      what: "an answer",
      timeoutMs: 60_000,
    });
    await assertNoneFailed(load, t);

    wire = await scene().watchWire();
    load = await scene().requests("peer", 10);
    denied = await scene().requests("far", 10);
    await on();
    for (const { metadata, status } of former) {
      const pod = await until(
        async () => {
          const now = await scene().cluster.pod(`${metadata.namespace}/${metadata.name}`);
          const [container] = now.status.containerStatuses ?? [];
          return container?.ready === true && container.restartCount > 0 && now.status.podIP !== status.podIP && now;
        },
        { what: `${metadata.name} to run again`, timeoutMs: BACK_LIMIT_MS, intervalMs: 200 },
      );
      assert.equal(pod.metadata.uid, metadata.uid);
    }
    // What their node agent said before the boot is there until it has looked at them again.
    await until(
      async () => {
        await scene().refresh();
        const node = await scene().cluster.get<{ status: { nodeInfo: { bootID: string } } }>("/api/v1/nodes/n2");
        for (const [index, pod] of [scene().far, scene().peer].entries()) {
          const id = pod.metadata.annotations?.[BOOT_ID_ANNOTATION];
          assert.equal(id, node?.status.nodeInfo.bootID);
          assert.notEqual(id, former[index]?.metadata.annotations?.[BOOT_ID_ANNOTATION]);
        }
        return true;
      },
      { what: "the pods to be captured in the node's new boot", timeoutMs: 30_000, intervalMs: 200 },
    );
    await scene().served(scene().url("peer"));
    assert.ok((await load.stop()).ok > 0);
    await assertNoneServed(denied);
    await scene().nothingInPlaintext(wire);
    await scene().allow("far");
    await scene().takesEffect("far", false);
  });
}

/** It goes down with its node like everything else, and then nothing new is told to anybody: that is another row. */
async function controlPlaneOnFirstNode({ cluster, mesh }: Scene): Promise<void> {
  const { metadata, spec } = await mesh.controlPlane();
  if (spec.nodeName === "n1") return;
  await cluster.kubectl(["cordon", "n2"]);
  try {
    await cluster.kubectl(["delete", "pod", metadata.name, "-n", MESH_NAMESPACE]);
    await cluster.rollout("deploy/istiod", MESH_NAMESPACE);
  } finally {
    await cluster.kubectl(["uncordon", "n2"]);
  }
}
