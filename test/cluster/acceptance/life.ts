import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ECHO_PORTS, type Load, MESH_NAMESPACE } from "../src/index.ts";
import type { Applications } from "./applications.ts";
import { NAMESPACE, OUT_OF_MESH } from "./scene.ts";

/** Forty milliseconds between requests, as upstream asks for it. */
const RATE = 25;
/** What is refused or cut fails at once; only a machine that is far too busy takes long. */
const PATIENCE_MS = 30_000;

/** What goes on must not be noticed: nothing is tried again, and nothing may fail. */
export function lifeTests(apps: () => Applications): void {
  /** New connections from a captured and an uncaptured client to a service, while something happens. */
  const during = async (service: string, happens: () => Promise<void>): Promise<void> => {
    const loads: Load[] = [];
    try {
      for (const app of ["client", "uncaptured"] as const) {
        const url = `http://${service}.${NAMESPACE}/`;
        const options = { url, rate: RATE, newShare: 1, timeoutMs: PATIENCE_MS };
        loads.push(await apps().cluster.startLoad(apps().reference(app), options));
      }
      await happens();
      for (const load of loads) {
        const { sent, ok } = await load.stop();
        const failures = load.failures.map(({ time, error }) => `${new Date(time).toISOString()} ${error}`);
        assert.equal(failures.length, 0, `${failures.length} of ${sent} failed:\n${failures.slice(0, 5).join("\n")}`);
        assert.equal(ok, sent);
        assert.ok(sent > RATE, `only ${sent} requests`);
      }
    } finally {
      for (const load of loads) await load[Symbol.asyncDispose]();
    }
  };

  describe("life goes on", () => {
    test("while all pods of a service are replaced", async () => {
      await during("captured", async () => {
        await apps().cluster.kubectl(["rollout", "restart", "deploy/captured", "-n", NAMESPACE]);
        await apps().cluster.rollout("deploy/captured", NAMESPACE);
      });
    });

    test("while all ztunnels are replaced", async () => {
      await during("captured", async () => {
        await apps().cluster.kubectl(["rollout", "restart", "ds/ztunnel", "-n", MESH_NAMESPACE]);
        await apps().cluster.rollout("ds/ztunnel", MESH_NAMESPACE);
      });
    });

    test("while the pods of a service join the mesh and leave it", async () => {
      const pods = await apps().look("captured");
      const label = (value: string) =>
        apps().cluster.kubectl([
          "label",
          "pod",
          "-n",
          NAMESPACE,
          "-l",
          "app=captured",
          `istio.io/dataplane-mode${value}`,
        ]);
      const captured = async (wanted: boolean) => {
        for (const { metadata } of pods) await apps().mesh.waitForCaptured(`${NAMESPACE}/${metadata.name}`, wanted);
      };
      await during("captured", async () => {
        for (let i = 0; i < 3; i++) {
          await label(`=${OUT_OF_MESH["istio.io/dataplane-mode"]}`);
          await captured(false);
          await label("-");
          await captured(true);
        }
      });
      const [pod] = pods;
      const answer = await apps().ask("client", `http://${pod?.status.podIP}:${ECHO_PORTS.http}/`);
      assert.equal(answer.pod, pod?.metadata.name);
    });
  });
}
