import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLog } from "@tulle/base";
import { CONFIG_MAP, type ConfigMap, NAMESPACE, type Namespace, StoreError } from "@tulle/store";
import { MemoryStore } from "../testing/memory-store.fixture.ts";
import { until } from "../testing/test-mesh.fixture.ts";
import { RootConfigMaps } from "./root-config-maps.ts";

const NAME = "istio-ca-root-cert";

function start(store: MemoryStore, roots = () => "ROOT") {
  const maps = new RootConfigMaps({ store, roots, log: silentLog, settleMs: 20 });
  const read = (namespace: string) => store.find(CONFIG_MAP, { namespace, name: NAME })?.data?.["root-cert.pem"];
  return { maps, read };
}

function namespace(store: MemoryStore, name: string, more: Partial<Namespace> = {}): void {
  store.put<Namespace>(NAMESPACE, { apiVersion: "v1", kind: "Namespace", metadata: { name }, ...more });
}

test("every namespace has the roots, but those in which nobody runs or that end", async () => {
  const store = new MemoryStore();
  const names = ["shop", "kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
  for (const name of names) namespace(store, name);
  namespace(store, "ending", { status: { phase: "Terminating" } });
  const { maps, read } = start(store);
  await until(() => read("shop") === "ROOT" && read("kube-system") === "ROOT");
  namespace(store, "late");
  await until(() => read("late") === "ROOT");
  for (const name of ["kube-public", "kube-node-lease", "local-path-storage", "ending"]) {
    assert.equal(read(name), undefined, name);
  }
  assert.equal(maps.missing, 0);
  const labels = store.find(CONFIG_MAP, { namespace: "shop", name: NAME })?.metadata.labels;
  assert.deepEqual(labels, { "istio.io/config": "true" });
  maps.close();
});

test("what is edited or deleted comes back, and new roots go everywhere", async () => {
  const store = new MemoryStore();
  namespace(store, "shop");
  let roots = "ROOT";
  const { maps, read } = start(store, () => roots);
  await until(() => read("shop") === "ROOT");
  const metadata = { namespace: "shop", name: NAME };
  store.put<ConfigMap>(CONFIG_MAP, {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata,
    data: { "root-cert.pem": "EVIL" },
  });
  await until(() => read("shop") === "ROOT", "the edited one comes back");
  store.drop(CONFIG_MAP, metadata);
  await until(() => read("shop") === "ROOT", "the deleted one comes back");
  roots = "OTHER";
  maps.refresh();
  await until(() => read("shop") === "OTHER");
  maps.close();
});

test("what cannot be written is tried again, and does not hold up others", async () => {
  const store = new MemoryStore();
  let refusals = 0;
  store.onWrite = (_, __, object) => {
    const where = "metadata" in object ? object.metadata.namespace : object.namespace;
    if (where === "full" && refusals++ < 2) throw new StoreError("FORBIDDEN", "quota");
  };
  namespace(store, "full");
  namespace(store, "shop");
  const { maps, read } = start(store);
  await until(() => read("shop") === "ROOT");
  await until(() => read("full") === "ROOT", "it is tried again");
  assert.equal(refusals, 3);
  maps.close();
});

test("somebody who edits it all the time is answered at a bounded rate", async () => {
  const store = new MemoryStore();
  let writes = 0;
  store.onWrite = () => {
    writes++;
  };
  namespace(store, "shop");
  const { maps, read } = start(store);
  await until(() => read("shop") === "ROOT");
  const metadata = { namespace: "shop", name: NAME };
  const end = performance.now() + 200;
  while (performance.now() < end) {
    store.put<ConfigMap>(CONFIG_MAP, { apiVersion: "v1", kind: "ConfigMap", metadata, data: { "root-cert.pem": "X" } });
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.ok(writes <= 15, `${writes} writes in 200 ms`);
  maps.close();
});
