import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { NAMESPACE, openStore } from "@tulle/store";

const folder = mkdtempSync(join(tmpdir(), "tulle-open-"));
after(() => rmSync(folder, { recursive: true }));

test("the environment chooses the store", async () => {
  const state = join(folder, "state");
  await using directory = await openStore({
    component: "x",
    env: { TULLE_STORE: "directory", TULLE_STORE_DIRECTORY: folder, TULLE_STORE_STATE: state },
  });
  assert.deepEqual([directory.name, (await directory.list(NAMESPACE)).length], ["directory", 3]);
  const KUBECONFIG = join(folder, "kubeconfig");
  writeFileSync(
    KUBECONFIG,
    JSON.stringify({
      "current-context": "x",
      clusters: [{ name: "c", cluster: { server: "https://127.0.0.1:1" } }],
      contexts: [{ name: "x", context: { cluster: "c" } }],
    }),
  );
  await using kubernetes = await openStore({ component: "x", env: { KUBECONFIG } });
  assert.equal(kubernetes.name, "kubernetes");
  await assert.rejects(kubernetes.list(NAMESPACE), { code: "UNAVAILABLE", message: /127.0.0.1:1.*ECONNREFUSED/ });
  await assert.rejects(openStore({ component: "x", env: { TULLE_STORE: "etcd" } }), { code: "CONFIG_INVALID" });
});

test("a process that speaks to a cluster loads no library for it", () => {
  const program = `
    import { registerHooks } from "node:module";
    const loaded = [];
    registerHooks({ load: (url, context, next) => { loaded.push(url); return next(url, context); } });
    const { openStore } = await import("@tulle/store");
    await openStore({ component: "x", env: { KUBECONFIG: ${JSON.stringify(join(folder, "kubeconfig"))} } });
    console.log(JSON.stringify(loaded.filter((url) => url.includes("node_modules"))));
  `;
  const output = execFileSync(process.execPath, ["--input-type=module", "-e", program], {
    cwd: import.meta.dirname,
    encoding: "utf8",
    timeout: 60_000,
  });
  assert.deepEqual(JSON.parse(output), []);
});
