import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { MESH_CONFIG_KEY, MESH_CONFIG_MAP, silentLog, SYSTEM_NAMESPACE } from "@tulle/base";
import { until } from "@tulle/lab";
import { DEFAULT_MESH_SETTINGS } from "@tulle/mesh/convert";
import { CONFIG_MAP } from "@tulle/store";
import { DirectoryStore } from "@tulle/store/directory";
import { MeshConfigWatch } from "./mesh-config-watch.ts";

const REF = { namespace: SYSTEM_NAMESPACE, name: MESH_CONFIG_MAP };
const configMap = (text: string) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: REF,
  data: { [MESH_CONFIG_KEY]: text },
});

test("the configuration of the mesh follows its ConfigMap, and the last good one outlives a bad one and its deletion", async () => {
  const state = mkdtempSync(join(tmpdir(), "tulle-mesh-config-"));
  try {
    await using store = await DirectoryStore.open({ directory: undefined, state, component: "test" });
    await store.create(CONFIG_MAP, configMap("trustDomain: one.org"));
    const base = { ...DEFAULT_MESH_SETTINGS, trustDomainAliases: [] };
    const watch = await MeshConfigWatch.open({ store, namespace: SYSTEM_NAMESPACE, base, log: silentLog });
    try {
      assert.equal(watch.settings.trustDomain, "one.org");
      const replace = (text: string) => store.apply(CONFIG_MAP, configMap(text), { manager: "user" });

      await replace("trustDomain: [");
      await until(() => watch.problem, { what: "the problem" });
      assert.equal(watch.settings.trustDomain, "one.org");

      await replace("trustDomain: two.org");
      await until(() => watch.settings.trustDomain === "two.org", { what: "the next good one" });
      assert.equal(watch.problem, undefined);

      await store.delete(CONFIG_MAP, REF);
      assert.match(await until(() => watch.problem, { what: "the problem" }), /istio-system\/istio is gone/);
      assert.equal(watch.settings.trustDomain, "two.org");

      await store.create(CONFIG_MAP, configMap("trustDomain: two.org"));
      await until(() => watch.problem === undefined, { what: "the ConfigMap to count again" });
    } finally {
      watch.close();
    }
  } finally {
    rmSync(state, { recursive: true });
  }
});
