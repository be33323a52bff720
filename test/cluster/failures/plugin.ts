import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { REDIRECTION_ANNOTATION } from "@tulle/base";
import { until } from "@tulle/lab";
import type { PodObject } from "../src/containers.ts";
import { MESH_NAMESPACE } from "../src/mesh.ts";
import { killPod, Outage, PodWatch } from "../src/outage.ts";
import { type GetScene, undo } from "./row.ts";
import { FAILING, nameOf, type Scene } from "./scene.ts";

const CONFIG = "/etc/cni/net.d/10-bridge.conflist";
const PROGRAM = "/opt/cni/bin/istio-cni";
/** The installer looks when a file changes; at the latest every few seconds. */
const HEALED_LIMIT_MS = 30_000;
/** kubelet makes a sandbox within a second or two, and tries a failed one again after some ten. */
const SANDBOX_LIMIT_MS = 120_000;

/** The CNI plugin without anybody to ask (the node agent alone: see its row), and its installer. */
export function pluginTests(scene: GetScene): void {
  describe("the CNI plugin", () => {
    test("without agent and API server lets pods of kube-system start, and no other", async () => {
      const { cluster, mesh } = scene();
      await scene().newPod({ name: "inside", node: 1 });
      await scene().newPod({ name: "outside", node: 1, labels: { "istio.io/dataplane-mode": "none" } });
      const inside = await scene().running("inside");
      await cluster.rollout("deploy/outside", FAILING);
      const [outside] = await cluster.pods("app=outside", FAILING);
      assert.ok(outside !== undefined);
      const system = await systemPod(scene());
      const outage = Outage.start(cluster, await mesh.nodeAgent(1));
      let away = true;
      const back = async () => {
        if (away) await cluster.apiserverStart();
        away = false;
      };
      try {
        await cluster.apiserverStop();
        const log = kubeletLog(scene());
        const watches = [inside, outside].map((pod) => new PodWatch(cluster, pod));
        const free = new PodWatch(cluster, system);
        for (const pod of [inside, outside, system]) killPod(cluster, pod);
        await until(() => free.running.length > 1, {
          what: "the system's pod to run again",
          timeoutMs: SANDBOX_LIMIT_MS,
        });
        for (const { metadata } of [inside, outside]) {
          const text = `whether ${metadata.namespace}/${metadata.name} belongs to the mesh cannot be told`;
          await until(() => kubeletLog(scene()).slice(log.length).includes(text), {
            what: `kubelet's log: ${text}`,
            timeoutMs: SANDBOX_LIMIT_MS,
            intervalMs: 200,
          });
        }
        // A sandbox may be there for the moment that it is asked about; no container of the pod.
        for (const { running } of watches) assert.ok(running.length <= 1, running.join(" "));

        await back();
        await outage.end();
        await restarted(scene(), outside);
        await restarted(scene(), inside);
        await scene().running("inside");
      } finally {
        await undo([
          () => scene().cluster.rollout("ds/istio-cni-node", MESH_NAMESPACE),
          () => scene().removePod("inside"),
          () => scene().removePod("outside"),
          () => scene().removePod("system-like", "kube-system"),
          () => outage.end(),
          back,
        ]);
      }
    });

    test("is missed by a pod that starts meanwhile only until the node agent is back", async () => {
      const { cluster, mesh } = scene();
      const config = await cluster.nodeExec(1, ["cat", CONFIG]);
      const outage = Outage.start(cluster, await mesh.nodeAgent(1));
      try {
        await cluster.nodeExec(1, ["tee", CONFIG], { input: withoutPlugin(config) });
        const early = await scene().newPod({ name: "early", node: 1 });
        await cluster.rollout("deploy/early", FAILING);
        assert.equal((await cluster.pod(nameOf(early))).metadata.annotations?.[REDIRECTION_ANNOTATION], undefined);
        await outage.end();
        const captured = await scene().running("early");
        assert.equal(captured.metadata.uid, early.metadata.uid);
        assert.equal(captured.status.containerStatuses?.[0]?.restartCount, 0);
        await scene().served(scene().url("far"), captured);
      } finally {
        await undo([
          () => cluster.rollout("ds/istio-cni-node", MESH_NAMESPACE),
          () => scene().removePod("early"),
          () => outage.end(),
        ]);
      }
    });

    test("comes back when somebody removes it or writes the network's configuration anew", async () => {
      const { cluster } = scene();
      const read = (file: string) => cluster.nodeExec(1, ["cat", file]);
      const [config, program] = [await read(CONFIG), await read(PROGRAM)];
      await cluster.nodeExec(1, ["tee", CONFIG], { input: withoutPlugin(config) });
      await until(async () => (await read(CONFIG)).includes('"istio-cni"'), {
        what: "the plugin in the configuration",
        timeoutMs: HEALED_LIMIT_MS,
        intervalMs: 100,
      });
      assert.deepEqual(JSON.parse(await read(CONFIG)), JSON.parse(config));
      await cluster.nodeExec(1, ["rm", PROGRAM]);
      await until(async () => (await read(PROGRAM)) === program, {
        what: "the plugin's program",
        timeoutMs: HEALED_LIMIT_MS,
        intervalMs: 100,
      });
    });
  });
}

/** The network's configuration as it was before the installer chained the plugin into it. */
function withoutPlugin(config: string): string {
  const network = JSON.parse(config) as { plugins: { type: string }[] };
  const plugins = network.plugins.filter(({ type }) => type !== "istio-cni");
  assert.notEqual(plugins.length, network.plugins.length);
  return JSON.stringify({ ...network, plugins });
}

/** A pod of kube-system on n1, of our own: nobody misses it. */
async function systemPod(scene: Scene): Promise<PodObject> {
  await scene.newPod({ name: "system-like", namespace: "kube-system", node: 1 });
  await scene.cluster.rollout("deploy/system-like", "kube-system");
  const [pod] = await scene.cluster.pods("app=system-like", "kube-system");
  return pod ?? assert.fail("there is no pod of system-like");
}

async function restarted({ cluster }: Scene, { metadata }: PodObject): Promise<void> {
  await until(
    async () => {
      const { status } = await cluster.pod(`${metadata.namespace}/${metadata.name}`);
      const [container] = status.containerStatuses ?? [];
      return container?.ready === true && container.restartCount > 0;
    },
    { what: `${metadata.name} to run again`, timeoutMs: SANDBOX_LIMIT_MS, intervalMs: 200 },
  );
}

function kubeletLog({ cluster }: Scene): string {
  return readFileSync(join(cluster.cluster.settings.folder, "log", "n1-kubelet.log"), "utf8");
}
