import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { until } from "@tulle/lab";
import { ECHO_PORTS, echo, type PodObject, type TestCluster } from "../src/index.ts";

/** An echo that must come: only a machine that is far too busy takes long. */
const PATIENCE_MS = 30_000;
/** From a node that is Ready to its pods that run, and to nodes that all know of them. */
const BACK_LIMIT_MS = 120_000;

/** Failures of Kubernetes' own parts, as later suites make them with a mesh on top. Destructive: the last one. */
export function suite(cluster: () => TestCluster): void {
  describe("the cluster when its parts fail", () => {
    const application = [...echo({ name: "here", node: 1 }), ...echo({ name: "there", node: 2 })];

    before(async () => {
      await cluster().apply(application);
      await cluster().rollout("deploy/here");
      await cluster().rollout("deploy/there");
    });

    after(async () => {
      await cluster().delete(application);
    });

    const only = async (name: string): Promise<PodObject> => {
      const [pod] = await cluster().pods(`app=${name}`);
      assert.ok(pod !== undefined);
      return pod;
    };
    const url = ({ status }: PodObject) => `http://${status.podIP}:8080/`;

    test("serves on without its API server, and takes orders again when that is back", async () => {
      const [here, there] = [await only("here"), await only("there")];
      await using held = await cluster().holdConnection(here.metadata.name, {
        address: `${there.status.podIP}:${ECHO_PORTS.tcp}`,
        timeoutMs: PATIENCE_MS,
      });
      await cluster().apiserverStop();
      await assert.rejects(cluster().kubectl(["get", "nodes", "--request-timeout=2s"]));
      const output = await cluster().execDirectly(here, ["/labbox", "get", url(there)]);
      assert.match(output, /^200 .*"pod":"there-/);
      await cluster().apiserverStart();
      assert.equal(await held.stop(), undefined);
      assert.equal((await only("there")).metadata.uid, there.metadata.uid);
      await cluster().kubectl(["rollout", "restart", "deploy/there"]);
      await cluster().rollout("deploy/there");
      assert.notEqual((await only("there")).metadata.uid, there.metadata.uid);
    });

    test("loses a node like a machine that is switched off", async () => {
      const [here, there] = [await only("here"), await only("there")];
      await using held = await cluster().holdConnection(here.metadata.name, {
        address: `${there.status.podIP}:${ECHO_PORTS.tcp}`,
        timeoutMs: 1000,
      });
      await cluster().nodeStop(2);
      // Nobody says goodbye.
      assert.equal((await until(() => held.failure, { what: "the connection's end" })).kind, "echo timeout");
      await assert.rejects(cluster().execDirectly(here, ["/labbox", "get", "-timeout=1s", url(there)]));
      await cluster().waitForNode(2, "Unknown");
      // A second time is no error.
      await cluster().nodeStop(2);
    });

    test("gets the node back with a fresh boot id, its disk, and new sandboxes for the same pods", async () => {
      const old = await cluster().get<NodeObject>("/api/v1/nodes/n2");
      const before = await only("there");
      await cluster().nodeStart(2);
      const node = await cluster().get<NodeObject>("/api/v1/nodes/n2");
      assert.equal(node?.metadata.uid, old?.metadata.uid);
      assert.notEqual(node?.status.nodeInfo.bootID, old?.status.nodeInfo.bootID);
      assert.equal(
        (await cluster().nodeExec(2, ["cat", "/proc/sys/kernel/random/boot_id"])).trim(),
        node?.status.nodeInfo.bootID,
      );
      const pod = await until(
        async () => {
          const there = await only("there");
          const [status] = there.status.containerStatuses ?? [];
          const restarted = status?.ready === true && status.restartCount > 0;
          return restarted && there.status.podIP !== undefined && there;
        },
        { what: "the pod to run again", timeoutMs: BACK_LIMIT_MS, intervalMs: 100 },
      );
      assert.equal(pod.metadata.uid, before.metadata.uid);
      const here = await only("here");
      const known = { from: here.metadata.name, answer: '"pod":"there-', timeoutMs: BACK_LIMIT_MS };
      await cluster().waitForEndpoint({ ...known, url: url(pod) });
      await cluster().waitForEndpoint({ ...known, url: "http://there/" });
    });
  });
}

interface NodeObject {
  readonly metadata: { readonly uid: string };
  readonly status: { readonly nodeInfo: { readonly bootID: string } };
}
