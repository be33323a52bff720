import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openStore, type Store } from "@tulle/store";
import { PODS, type Pod } from "../objects.ts";
import { conditionOf, PodStatus } from "./pod-status.ts";

describe("what the agent writes on a pod, in a directory as in a cluster", () => {
  let folder: string;
  let store: Store;
  let status: PodStatus;
  let pod: Pod;
  let now = Date.parse("2026-01-01T00:00:00Z");

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "tulle-status-"));
    const env = { TULLE_STORE: "directory", TULLE_STORE_STATE: join(folder, "state") };
    store = await openStore({ component: "test", env });
    status = new PodStatus({ store, bootId: "boot", now: () => now });
    await store.create(PODS, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "p", namespace: "default", annotations: { theirs: "kept" } },
      spec: { containers: [] },
    });
    const ready = { type: "Ready", status: "True" };
    const patch = { type: "merge", body: { status: { conditions: [ready], podIP: "10.0.0.1" } } } as const;
    pod = await store.patch(PODS, { namespace: "default", name: "p" }, patch, { subresource: "status" });
  });
  after(async () => {
    await store?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  const written = async () => (await store.get(PODS, { namespace: "default", name: "p" })) as Pod;

  test("enabled, leaving and outside leave what others wrote alone", async () => {
    pod = await status.enabled(pod);
    assert.deepEqual((await written()).metadata.annotations, {
      theirs: "kept",
      "ambient.istio.io/redirection": "enabled",
      "ambient.tulle.dev/boot-id": "boot",
    });
    pod = await status.leaving(pod, "id");
    assert.deepEqual((await written()).metadata.annotations, { theirs: "kept", "ambient.tulle.dev/leaving": "id" });
    pod = await status.condition(pod, { captured: false, reason: "Draining", message: "m" });
    pod = await status.outside(pod);
    const { metadata, status: after } = await written();
    assert.deepEqual(metadata.annotations, { theirs: "kept" });
    assert.deepEqual(
      after?.conditions?.map(({ type }) => type),
      ["Ready"],
    );
    assert.equal(after?.podIP, "10.0.0.1");
  });

  test("a condition keeps its time while its status stays, and is written only when something is new", async () => {
    pod = await status.condition(pod, { captured: true, reason: "Captured", message: "one" });
    const first = conditionOf(await written());
    assert.equal(first?.lastTransitionTime, "2026-01-01T00:00:00Z");
    now += 60_000;
    const version = (await written()).metadata.resourceVersion;
    pod = await status.condition(pod, { captured: true, reason: "Captured", message: "one" });
    assert.equal((await written()).metadata.resourceVersion, version);
    pod = await status.condition(pod, { captured: true, reason: "Captured", message: "two" });
    assert.equal(conditionOf(await written())?.lastTransitionTime, "2026-01-01T00:00:00Z");
    pod = await status.condition(pod, { captured: false, reason: "RulesChanged", message: "x".repeat(5000) });
    assert.equal(conditionOf(await written())?.lastTransitionTime, "2026-01-01T00:01:00Z");
    assert.ok((conditionOf(await written())?.message?.length ?? 0) < 1100);
  });

  test("nothing is written on another pod that has the name by now, or on none", async () => {
    const former = { ...pod, metadata: { ...pod.metadata, uid: "former" } };
    const before = await written();
    await status.leaving(former, "id").catch(() => undefined);
    assert.deepEqual((await written()).metadata.annotations, before.metadata.annotations);
    const gone = { ...pod, metadata: { ...pod.metadata, name: "gone" } };
    assert.equal(await status.enabled(gone), gone);
  });
});
