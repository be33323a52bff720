import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { until } from "@tulle/lab";
import { artifact } from "../src/artifacts.ts";
import { ECHO_PORTS, echo, imageTar, type PodObject, type TestCluster } from "../src/index.ts";

/** For answers that must come: only a machine that is far too busy takes long. */
const PATIENCE_MS = 30_000;

/** What other suites look with: captures, loads, images from files. They must not see what is not there, nor miss what is. */
export function suite(cluster: () => TestCluster): void {
  describe("the cluster's instruments", () => {
    const application = echo({ name: "instruments", replicas: 2 });
    /** One on each node. */
    let first: PodObject;
    let second: PodObject;

    before(async () => {
      await cluster().apply(application);
      await cluster().rollout("deploy/instruments");
      const [a, b] = await cluster().pods("app=instruments");
      assert.ok(a !== undefined && b !== undefined);
      first = a;
      second = b;
    });

    after(async () => {
      await cluster().delete(application);
    });

    /** Of a pod, IPv4 first. */
    const addresses = ({ status }: PodObject) => (status.podIPs ?? []).map(({ ip }) => ip);
    const url = (ip: string, path = "/", port: number = ECHO_PORTS.http) => `http://${ip}:${port}${path}`;

    test("takes an image from a file, on every node", async () => {
      const folder = mkdtempSync(join(tmpdir(), "tulle-image-"));
      try {
        const reference = "lab.local/loaded:1";
        const content = readFileSync(artifact("labbox", "labbox"));
        const files = [
          { path: "/labbox", content },
          { path: "/proof", content: Buffer.from("loaded"), mode: 0o644 },
        ];
        const entrypoint = ["/labbox"];
        writeFileSync(join(folder, "image.tar"), imageTar({ reference, entrypoint, files, architecture: "amd64" }));
        await cluster().load(join(folder, "image.tar"));
        const pods = [1, 2].map((node) => loadedPod(`loaded-${node}`, node, reference));
        await cluster().apply(pods);
        for (const node of [1, 2]) {
          await cluster().kubectl(["wait", "--for=condition=Ready", `pod/loaded-${node}`, "--timeout=60s"]);
          assert.equal(await cluster().exec(`loaded-${node}`, ["/labbox", "cat", "/proof"]), "loaded");
        }
        await cluster().delete(pods);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });

    test("sees a payload on the bridges that it crosses, and on no other", async () => {
      const marker = randomUUID();
      await using capture = await cluster().captureBridges();
      const [ip = ""] = addresses(second);
      await cluster().exec(first.metadata.name, ["/labbox", "marker", url(ip), marker]);
      await until(() => capture.seenOn(marker).length === 3, { what: "the payload on all bridges" });
      // From a pod to itself: over no bridge at all.
      const own = randomUUID();
      await cluster().exec(first.metadata.name, ["/labbox", "marker", url("127.0.0.1"), own]);
      await capture.stop();
      assert.deepEqual(capture.seenOn(own), []);
      for (const count of Object.values(capture.payloads())) assert.ok(count > 0);
    });

    test("sees what two pods of one node say to each other", async () => {
      await cluster().apply(echo({ name: "neighbour", node: 1 }));
      try {
        await cluster().rollout("deploy/neighbour");
        const [neighbour] = await cluster().pods("app=neighbour");
        const local = [first, second].find(({ spec }) => spec.nodeName === "n1");
        assert.ok(neighbour !== undefined && local !== undefined);
        const marker = randomUUID();
        await using capture = await cluster().captureBridges();
        await cluster().exec(local.metadata.name, ["/labbox", "marker", url(addresses(neighbour)[0] ?? ""), marker]);
        await until(() => capture.seenOn(marker).length > 0, { what: "the payload on the pods' bridge" });
        await capture.stop();
        assert.deepEqual(capture.seenOn(marker), ["n1"]);
      } finally {
        await cluster().delete(echo({ name: "neighbour" }));
      }
    });

    test("makes a load of which every request is counted", async () => {
      const [ip = ""] = addresses(second);
      const options = { url: url(ip), rate: 200, newShare: 0.5, maxDurationMs: 1500, timeoutMs: PATIENCE_MS };
      await using load = await cluster().startLoad(first.metadata.name, options);
      await until(() => load.ended, { what: "the load to end by itself", timeoutMs: 2 * PATIENCE_MS });
      const summary = await load.stop();
      assert.deepEqual(load.failures, []);
      assert.equal(summary.ok, summary.sent);
      // A busy machine may have kept it from sending, but never made it send more.
      assert.ok(summary.sent > 0 && summary.sent <= 301, `sent ${summary.sent}`);
      assert.ok(Math.abs(summary.new - summary.kept) <= 1, `${summary.new} new, ${summary.kept} kept`);
      assert.ok(summary.dialled <= summary.new + 8);
    });

    test("tells of each request that fails, and how", async () => {
      const [ip = ""] = addresses(second);
      const cases = [
        // Long: a busy machine must make no time-out of the first two. The third's answer comes later still.
        { url: url(ip, "/", 1), kind: "connect", newShare: 1, timeoutMs: 10_000 },
        { url: url(ip, "/?status=503"), kind: "status", newShare: 0, timeoutMs: 10_000 },
        { url: url(ip, "/?delay=10s"), kind: "read timeout", newShare: 0.5, timeoutMs: 3000 },
      ];
      for (const { kind, ...options } of cases) {
        await using load = await cluster().startLoad(first.metadata.name, { ...options, rate: 50 });
        await until(() => load.failures.length > 0, { what: `a failure of kind ${kind}`, timeoutMs: PATIENCE_MS });
        const summary = await load.stop();
        assert.deepEqual(
          [...new Set(load.failures.map((failure) => failure.kind))].filter((k) => k !== "queue timeout"),
          [kind],
        );
        assert.equal(summary.failed, load.failures.length);
        assert.equal(summary.ok, 0);
      }
    });
  });
}

/** A pod of an image that was loaded; no registry has it. */
function loadedPod(name: string, node: number, image: string): object {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name },
    spec: {
      nodeName: `n${node}`,
      terminationGracePeriodSeconds: 0,
      containers: [{ name: "main", image, args: ["sleep"], imagePullPolicy: "IfNotPresent" }],
    },
  };
}
