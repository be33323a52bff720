import assert from "node:assert/strict";
import { test } from "node:test";
import { CONFIG_MAP, type Deployment, DEPLOYMENT, POD, SERVICE, type Service } from "@tulle/store";
import { configMap, freshNamespace, makeConfigMap, makePod, type OpenStore } from "./helpers.ts";

export function describeWrites(open: OpenStore): void {
  test("creating what exists, or where no namespace is, is refused", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    await makeConfigMap(store, namespace, "a", {});
    await assert.rejects(makeConfigMap(store, namespace, "a", {}), { code: "EXISTS", message: /a/ });
    await assert.rejects(makeConfigMap(store, "no-such-namespace", "a", {}), { code: "NOT_FOUND", message: /no-such/ });
  });

  test("generateName makes a name", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const made = await store.create(CONFIG_MAP, {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { namespace, name: "", generateName: "made-" },
    });
    assert.match(made.metadata.name, /^made-[a-z0-9]{5}$/);
  });

  test("a merge patch sets and removes, and leaves the rest", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const ref = { namespace, name: "a" };
    const made = await makeConfigMap(store, namespace, "a", { keep: "1", drop: "2" });
    const body = { metadata: { annotations: { "x/y": "z" } }, data: { drop: null } };
    const patched = await store.patch(CONFIG_MAP, ref, { type: "merge", body });
    assert.deepEqual([patched.data, patched.metadata.annotations], [{ keep: "1" }, { "x/y": "z" }]);
    assert.notEqual(patched.metadata.resourceVersion, made.metadata.resourceVersion);
    assert.equal(patched.metadata.uid, made.metadata.uid);
    const again = await store.patch(CONFIG_MAP, ref, { type: "merge", body });
    assert.equal(again.metadata.resourceVersion, patched.metadata.resourceVersion, "nothing changed");
  });

  test("patches of nothing, of an older version, or with wrong types are refused", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const ref = { namespace, name: "a" };
    await assert.rejects(store.patch(CONFIG_MAP, ref, { type: "merge", body: {} }), { code: "NOT_FOUND" });
    const { metadata } = await makeConfigMap(store, namespace, "a", {});
    await store.patch(CONFIG_MAP, ref, { type: "merge", body: { data: { a: "1" } } });
    const stale = { metadata: { resourceVersion: metadata.resourceVersion }, data: { a: "2" } };
    await assert.rejects(store.patch(CONFIG_MAP, ref, { type: "merge", body: stale }), { code: "CONFLICT" });
    const wrong = { metadata: { labels: { number: 7 } } };
    await assert.rejects(store.patch(CONFIG_MAP, ref, { type: "merge", body: wrong }), { code: "INVALID" });
    assert.deepEqual((await store.get(CONFIG_MAP, ref))?.data, { a: "1" });
  });

  test("a JSON patch happens as a whole, and only when its tests hold", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const ref = { namespace, name: "a" };
    await makeConfigMap(store, namespace, "a", { a: "1" }, { "x/y": "2" });
    const good = await store.patch(CONFIG_MAP, ref, {
      type: "json",
      body: [
        { op: "test", path: "/data/a", value: "1" },
        { op: "replace", path: "/data/a", value: "2" },
        { op: "add", path: "/data/b", value: "3" },
        { op: "remove", path: "/metadata/labels/x~1y" },
      ],
    });
    assert.deepEqual([good.data, good.metadata.labels ?? {}], [{ a: "2", b: "3" }, {}]);
    const failing = [
      { op: "replace", path: "/data/b", value: "9" },
      { op: "test", path: "/data/a", value: "1" },
    ] as const;
    await assert.rejects(store.patch(CONFIG_MAP, ref, { type: "json", body: failing }), { code: "CONFLICT" });
    const missing = [{ op: "remove", path: "/data/none" }] as const;
    await assert.rejects(store.patch(CONFIG_MAP, ref, { type: "json", body: missing }), { code: "INVALID" });
    assert.deepEqual((await store.get(CONFIG_MAP, ref))?.data, { a: "2", b: "3" });
  });

  test("status is written through its sub-resource and by no other way", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const ref = { namespace, name: "p" };
    await makePod(store, namespace, "p", "n1");
    const body = { status: { phase: "Running", podIP: "10.0.0.1" } };
    const plain = await store.patch(POD, ref, { type: "merge", body });
    assert.notEqual(plain.status?.podIP, "10.0.0.1");
    const viaStatus = { ...body, metadata: { annotations: { "a/b": "c" } }, spec: { nodeName: "n2" } };
    const written = await store.patch(POD, ref, { type: "merge", body: viaStatus }, { subresource: "status" });
    assert.deepEqual([written.status?.phase, written.status?.podIP], ["Running", "10.0.0.1"]);
    assert.deepEqual([written.metadata.annotations?.["a/b"], written.spec?.nodeName], ["c", "n1"]);
    const kept = await store.patch(POD, ref, { type: "merge", body: { metadata: { labels: { x: "y" } } } });
    assert.equal(kept.status?.podIP, "10.0.0.1");
  });

  test("apply creates, changes, and removes what its manager omits", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const apply = (data: Record<string, string>, manager: string) =>
      store.apply(CONFIG_MAP, configMap(namespace, "a", data), { manager });
    await apply({ a: "1", b: "1" }, "one");
    await apply({ c: "2" }, "two");
    assert.deepEqual((await apply({ a: "1" }, "one")).data, { a: "1", c: "2" });
    const same = await store.get(CONFIG_MAP, { namespace, name: "a" });
    assert.equal((await apply({ a: "1" }, "one")).metadata.resourceVersion, same?.metadata.resourceVersion);
    // What both have goes only when both let it go.
    await apply({ a: "1", c: "2" }, "two");
    assert.deepEqual((await apply({}, "one")).data, { a: "1", c: "2" });
  });

  test("what somebody else patched is not the manager's to remove", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const ref = { namespace, name: "a" };
    await store.apply(CONFIG_MAP, configMap(namespace, "a", { mine: "1", both: "1" }), { manager: "one" });
    await store.patch(CONFIG_MAP, ref, { type: "merge", body: { data: { theirs: "2", both: "2" } } });
    const left = await store.apply(CONFIG_MAP, configMap(namespace, "a", {}), { manager: "one" });
    assert.deepEqual(left.data, { theirs: "2", both: "2" });
  });

  test("apply without force leaves other managers' fields", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    await store.apply(CONFIG_MAP, configMap(namespace, "a", { a: "1" }), { manager: "one" });
    const other = configMap(namespace, "a", { a: "2" });
    await assert.rejects(store.apply(CONFIG_MAP, other, { manager: "two", force: false }), {
      code: "CONFLICT",
      message: /one.*data\.a|data\.a.*one/,
    });
    const taken = await store.apply(CONFIG_MAP, other, { manager: "two" });
    assert.deepEqual(taken.data, { a: "2" });
  });

  test("conditions of two managers stand side by side", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const service: Service = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { namespace, name: "s" },
      spec: { ports: [{ port: 80 }] },
    };
    await store.create(SERVICE, service);
    const say = (type: string, status: string, manager: string) => {
      const lastTransitionTime = "2026-01-01T00:00:00Z";
      const conditions = [{ type, status, reason: "Said", message: "", lastTransitionTime }];
      const { spec: _spec, ...bare } = service;
      return store.apply<Service>(SERVICE, { ...bare, status: { conditions } }, { manager, subresource: "status" });
    };
    await say("One", "True", "one");
    await say("Two", "True", "two");
    const both = await say("One", "False", "one");
    const shown = both.status?.conditions?.map(({ type, status }) => `${type}=${status}`).toSorted();
    assert.deepEqual(shown, ["One=False", "Two=True"]);
    const renamed = await say("Three", "True", "one");
    assert.deepEqual(renamed.status?.conditions?.map(({ type }) => type).toSorted(), ["Three", "Two"]);
    assert.equal(renamed.spec?.ports?.[0]?.port, 80);
  });

  test("status of what does not exist is not applied", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const bare = { apiVersion: "v1", kind: "Service", metadata: { namespace, name: "s" }, status: {} };
    const options = { manager: "one", subresource: "status" } as const;
    // The API server validates what it would make before it notices that it may not.
    await assert.rejects(store.apply(SERVICE, bare, options), ({ code }) => code === "NOT_FOUND" || code === "INVALID");
    assert.equal(await store.get(SERVICE, { namespace, name: "s" }), undefined);
  });

  test("generation counts changes of the spec", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const selector = { matchLabels: { app: "x" } };
    const template = {
      metadata: { labels: { app: "x" } },
      spec: { containers: [{ name: "main", image: "none" }] },
    };
    const deployment: Deployment = {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { namespace, name: "d" },
      spec: { replicas: 1, selector, template },
    };
    const ref = { namespace, name: "d" };
    const generations = [(await store.create(DEPLOYMENT, deployment)).metadata.generation];
    for (const body of [{ spec: { replicas: 2 } }, { metadata: { labels: { a: "b" } } }, { spec: { replicas: 2 } }]) {
      generations.push((await store.patch(DEPLOYMENT, ref, { type: "merge", body })).metadata.generation);
    }
    const body = { status: { replicas: 2, observedGeneration: 2 } };
    const status = await store.patch(DEPLOYMENT, ref, { type: "merge", body }, { subresource: "status" });
    assert.deepEqual([...generations, status.metadata.generation], [1, 2, 2, 2, 2]);
  });

  test("deleting is by name, or by uid, and twice is well", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const ref = { namespace, name: "a" };
    const first = await makeConfigMap(store, namespace, "a", {});
    await store.delete(CONFIG_MAP, ref);
    await store.delete(CONFIG_MAP, ref);
    const second = await makeConfigMap(store, namespace, "a", {});
    assert.notEqual(second.metadata.uid, first.metadata.uid);
    await store.delete(CONFIG_MAP, ref, { uid: first.metadata.uid ?? "" });
    assert.equal((await store.get(CONFIG_MAP, ref))?.metadata.uid, second.metadata.uid);
    await store.delete(CONFIG_MAP, ref, { uid: second.metadata.uid ?? "" });
    assert.equal(await store.get(CONFIG_MAP, ref), undefined);
  });

  test("two processes that write to one object lose none of each other's fields", async () => {
    await using one = await open("tulle-one");
    await using two = await open("tulle-two");
    const namespace = await freshNamespace(one);
    const ref = { namespace, name: "a" };
    await makeConfigMap(one, namespace, "a", {});
    const count = 20;
    const write = (store: typeof one, prefix: string) =>
      Array.from({ length: count }, (_, index) =>
        store.patch(CONFIG_MAP, ref, { type: "merge", body: { data: { [`${prefix}${index}`]: "1" } } }),
      );
    await Promise.all([...write(one, "a"), ...write(two, "b")]);
    assert.equal(Object.keys((await one.get(CONFIG_MAP, ref))?.data ?? {}).length, 2 * count);
  });

  test("a write that was given up is not waited for", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const object = configMap(namespace, "a", {});
    const options = { manager: "one", signal: AbortSignal.abort() };
    await assert.rejects(store.apply(CONFIG_MAP, object, options), { code: "UNAVAILABLE" });
  });
}
