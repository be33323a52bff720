import assert from "node:assert/strict";
import { test } from "node:test";
import { CONFIG_MAP, NAMESPACE, POD, TELEMETRY } from "@tulle/store";
import { freshNamespace, makeConfigMap, makePod, type OpenStore } from "./helpers.ts";

export function describeReads(open: OpenStore): void {
  test("what was created is read back, with what the store adds", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const made = await makeConfigMap(store, namespace, "a", { key: "value" }, { app: "x" });
    const read = await store.get(CONFIG_MAP, { namespace, name: "a" });
    assert.deepEqual(read, made);
    assert.deepEqual(read?.data, { key: "value" });
    assert.deepEqual([read?.apiVersion, read?.kind, read?.metadata.labels?.app], ["v1", "ConfigMap", "x"]);
    assert.match(read?.metadata.uid ?? "", /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    assert.match(read?.metadata.resourceVersion ?? "", /^\d+$/);
    assert.match(read?.metadata.creationTimestamp ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  });

  test("what is not there is undefined, and a list without it is empty", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    assert.equal(await store.get(CONFIG_MAP, { namespace, name: "none" }), undefined);
    assert.deepEqual(await store.list(CONFIG_MAP, { namespace }), []);
  });

  test("lists are of one namespace or of all, and items have their kind", async () => {
    await using store = await open();
    const [one, other] = [await freshNamespace(store), await freshNamespace(store)];
    for (let index = 0; index < 7; index++) await makeConfigMap(store, one, `m${index}`, {});
    await makeConfigMap(store, other, "elsewhere", {});
    const listed = await store.list(CONFIG_MAP, { namespace: one });
    assert.deepEqual(listed.map(({ metadata }) => metadata.name).toSorted(), [
      "m0",
      "m1",
      "m2",
      "m3",
      "m4",
      "m5",
      "m6",
    ]);
    assert.ok(listed.every(({ kind, apiVersion }) => kind === "ConfigMap" && apiVersion === "v1"));
    const places = new Set((await store.list(CONFIG_MAP)).map(({ metadata }) => metadata.namespace));
    assert.ok(places.has(one) && places.has(other));
  });

  test("labels and fields select", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    await makeConfigMap(store, namespace, "a", {}, { app: "x", tier: "1" });
    await makeConfigMap(store, namespace, "b", {}, { app: "x" });
    await makePod(store, namespace, "p1", "n1");
    await makePod(store, namespace, "p2", "n2");
    const names = (objects: readonly { readonly metadata: { readonly name: string } }[]) =>
      objects.map(({ metadata }) => metadata.name).toSorted();
    assert.deepEqual(names(await store.list(CONFIG_MAP, { namespace, labels: { app: "x" } })), ["a", "b"]);
    assert.deepEqual(names(await store.list(CONFIG_MAP, { namespace, labels: { app: "x", tier: "1" } })), ["a"]);
    assert.deepEqual(names(await store.list(CONFIG_MAP, { namespace, fields: { "metadata.name": "b" } })), ["b"]);
    assert.deepEqual(names(await store.list(POD, { namespace, fields: { "spec.nodeName": "n2" } })), ["p2"]);
  });

  test("the namespaces of every cluster are there and carry their own name as a label", async () => {
    await using store = await open();
    const found = await store.get(NAMESPACE, { name: "default" });
    assert.equal(found?.metadata.labels?.["kubernetes.io/metadata.name"], "default");
    assert.equal(found?.metadata.namespace, undefined);
  });

  test("a namespaced object without a namespace is refused", async () => {
    await using store = await open();
    await assert.rejects(store.get(CONFIG_MAP, { name: "a" }), { code: "INVALID", message: /namespace is missing/ });
  });

  test("a kind that nobody has installed is watched as empty", async () => {
    await using store = await open();
    using watch = store.watch(TELEMETRY, { put() {}, gone() {} });
    await watch.whenSynced(AbortSignal.timeout(10_000));
    assert.deepEqual([watch.size, watch.state.problem], [0, undefined]);
  });
}
