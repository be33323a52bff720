import assert from "node:assert/strict";
import { test } from "node:test";
import { CONFIG_MAP } from "@tulle/store";
import { freshNamespace, makeConfigMap, type OpenStore, record, until } from "./helpers.ts";

export function describeWatch(open: OpenStore): void {
  test("a watch gives what is there, says that it has, and goes on with changes", async () => {
    await using store = await open();
    await using other = await open("tulle-other");
    const namespace = await freshNamespace(store);
    await makeConfigMap(store, namespace, "a", {});
    await makeConfigMap(store, namespace, "b", {});
    using seen = record(other, CONFIG_MAP, { namespace });
    assert.deepEqual(seen.calls, [], "handlers are not called from within watch");
    await seen.watch.whenSynced();
    assert.deepEqual(new Set(seen.calls), new Set(["put a", "put b", "synced"]));
    assert.equal(seen.calls.at(-1), "synced");
    await store.patch(CONFIG_MAP, { namespace, name: "a" }, { type: "merge", body: { data: { x: "1" } } });
    await store.delete(CONFIG_MAP, { namespace, name: "b" });
    await until("both changes", () => seen.calls.length === 5);
    // Between two objects no order is promised.
    assert.deepEqual(new Set(seen.calls.slice(3)), new Set(["put a", "gone b"]));
    assert.deepEqual(seen.watch.get({ namespace, name: "a" })?.data, { x: "1" });
    assert.deepEqual([seen.watch.size, seen.watch.get({ namespace, name: "b" })], [1, undefined]);
    assert.deepEqual([seen.watch.state.synced, seen.watch.state.problem], [true, undefined]);
  });

  test("under concurrent writes nothing comes out of order and the end is complete", async () => {
    await using one = await open("tulle-one");
    await using two = await open("tulle-two");
    const namespace = await freshNamespace(one);
    const names = ["a", "b", "c", "d"];
    for (const name of names) await makeConfigMap(one, namespace, name, { step: "0" });
    using seen = record(two, CONFIG_MAP, { namespace });
    const steps = 15;
    await Promise.all(
      names.map(async (name, index) => {
        const store = index % 2 === 0 ? one : two;
        for (let step = 1; step <= steps; step++) {
          await store.patch(CONFIG_MAP, { namespace, name }, { type: "merge", body: { data: { step: String(step) } } });
        }
      }),
    );
    await until("the last step of each", () =>
      names.every((name) => seen.watch.get({ namespace, name })?.data?.step === String(steps)),
    );
    for (const name of names) {
      const order = seen.objects.filter(({ metadata }) => metadata.name === name).map(({ data }) => Number(data?.step));
      assert.deepEqual(
        order,
        order.toSorted((a, b) => a - b),
        name,
      );
      assert.equal(new Set(order).size, order.length, `${name}: nothing is told twice`);
    }
  });

  test("an object that leaves the selection is gone, and comes back", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    await makeConfigMap(store, namespace, "a", {}, { app: "x" });
    await makeConfigMap(store, namespace, "b", {}, { app: "y" });
    using seen = record(store, CONFIG_MAP, { namespace, labels: { app: "x" } });
    await seen.watch.whenSynced();
    const label = (app: string) =>
      store.patch(CONFIG_MAP, { namespace, name: "a" }, { type: "merge", body: { metadata: { labels: { app } } } });
    await label("z");
    await until("gone", () => seen.calls.length === 3);
    await label("x");
    await until("back", () => seen.calls.length === 4);
    assert.deepEqual(seen.calls, ["put a", "synced", "gone a", "put a"]);
  });

  test("an object that was made anew is another", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const first = await makeConfigMap(store, namespace, "a", {});
    using seen = record(store, CONFIG_MAP, { namespace });
    await seen.watch.whenSynced();
    await store.delete(CONFIG_MAP, { namespace, name: "a" });
    const second = await makeConfigMap(store, namespace, "a", {});
    await until("the new one", () => seen.watch.get({ namespace, name: "a" })?.metadata.uid === second.metadata.uid);
    assert.deepEqual(seen.calls, ["put a", "synced", "gone a", "put a"]);
    assert.equal(seen.objects[1]?.metadata.uid, first.metadata.uid);
  });

  test("a handler that throws does not end its watch", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    await makeConfigMap(store, namespace, "a", {});
    const put = () => {
      throw new Error("handler");
    };
    using watch = store.watch(CONFIG_MAP, { put, gone() {} }, { namespace });
    await watch.whenSynced();
    await makeConfigMap(store, namespace, "b", {});
    await until("the second object", () => watch.size === 2);
  });

  test("a closed watch says nothing more, and who waits for it is told", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    const early = record(store, CONFIG_MAP, { namespace });
    const waiting = early.watch.whenSynced();
    early.watch.close();
    await assert.rejects(waiting, { code: "UNAVAILABLE", message: /closed/ });
    using aborted = record(store, CONFIG_MAP, { namespace });
    await assert.rejects(aborted.watch.whenSynced(AbortSignal.abort()), { code: "UNAVAILABLE" });
    using seen = record(store, CONFIG_MAP, { namespace });
    const closing = record(store, CONFIG_MAP, { namespace });
    await Promise.all([seen.watch.whenSynced(), closing.watch.whenSynced()]);
    closing.watch.close();
    await makeConfigMap(store, namespace, "a", {});
    await until("the other watch to see it", () => seen.calls.includes("put a"));
    assert.deepEqual([early.calls, closing.calls], [[], ["synced"]]);
  });

  test("a handler may close its own watch", async () => {
    await using store = await open();
    const namespace = await freshNamespace(store);
    for (const name of ["a", "b", "c"]) await makeConfigMap(store, namespace, name, {});
    const told: string[] = [];
    const watch = store.watch(
      CONFIG_MAP,
      {
        put: ({ metadata }) => {
          told.push(metadata.name);
          watch.close();
        },
        gone() {},
        synced: () => void told.push("synced"),
      },
      { namespace },
    );
    await assert.rejects(watch.whenSynced(), { code: "UNAVAILABLE" });
    assert.equal(told.length, 1);
  });
}
