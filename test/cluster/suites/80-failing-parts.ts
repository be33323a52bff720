import { after, before, describe } from "node:test";
import { apiServerRow } from "../failures/api-server.ts";
import { controlPlaneRow } from "../failures/control-plane.ts";
import { nodeAgentRow } from "../failures/node-agent.ts";
import { nodeRow } from "../failures/node.ts";
import { podRow } from "../failures/pod.ts";
import { pluginTests } from "../failures/plugin.ts";
import { proofTests } from "../failures/proofs.ts";
import { rolloutTest } from "../failures/rollout.ts";
import { row } from "../failures/row.ts";
import { Scene } from "../failures/scene.ts";
import { ztunnelRow } from "../failures/ztunnel.ts";
import type { TestCluster } from "../src/index.ts";

/** Every part killed: what becomes of old and new connections, new pods and policy. The table is `failures/table.ts`. */
export function suite(cluster: () => TestCluster): void {
  describe("what happens when parts fail", () => {
    let made: Scene | undefined;
    const scene = () => {
      if (made === undefined) throw new Error("the scene is used outside of a test");
      return made;
    };
    before(async () => {
      made = new Scene(cluster());
      await made.mesh.install();
      await made.start();
    });
    after(async () => {
      await made?.remove();
    });

    rolloutTest(scene);
    proofTests(scene);
    pluginTests(scene);
    row("pod", (cell) => podRow(scene, cell));
    row("ztunnel", (cell) => ztunnelRow(scene, cell));
    row("control plane", (cell) => controlPlaneRow(scene, cell));
    row("node agent", (cell) => nodeAgentRow(scene, cell));
    row("API server", (cell) => apiServerRow(scene, cell));
    row("node", (cell) => nodeRow(scene, cell));
  });
}
