import assert from "node:assert/strict";
import { test } from "node:test";
import { parseStoreConfig } from "./store-config.ts";

test("which store the environment names", () => {
  const host = { KUBERNETES_SERVICE_HOST: "10.96.0.1" };
  const cases: readonly (readonly [env: Record<string, string>, config: unknown])[] = [
    [{}, { type: "kubernetes", access: "kubeconfig" }],
    [host, { type: "kubernetes", access: "in-cluster" }],
    [
      { ...host, KUBECONFIG: "/x" },
      { type: "kubernetes", access: "kubeconfig" },
    ],
    [
      { TULLE_STORE: "directory", TULLE_STORE_DIRECTORY: "/yaml", TULLE_STORE_STATE: "/state" },
      { type: "directory", directory: "/yaml", state: "/state" },
    ],
    [
      { TULLE_STORE: "directory", TULLE_STORE_STATE: "/state" },
      { type: "directory", directory: undefined, state: "/state" },
    ],
  ];
  for (const [env, config] of cases) assert.deepEqual(parseStoreConfig(env), config);
});

test("what is wrong in it is named", () => {
  const cases: readonly (readonly [env: Record<string, string>, message: RegExp])[] = [
    [{ TULLE_STORE: "etcd" }, /TULLE_STORE is "etcd".*kubernetes or directory/],
    [{ TULLE_STORE: "directory" }, /TULLE_STORE_STATE/],
    [{ TULLE_STORE: "directory", TULLE_STORE_STATE: "state" }, /TULLE_STORE_STATE is "state".*absolute/],
    [
      { TULLE_STORE: "directory", TULLE_STORE_STATE: "/s", TULLE_STORE_DIRECTORY: "yaml" },
      /TULLE_STORE_DIRECTORY is "yaml".*absolute/,
    ],
  ];
  for (const [env, message] of cases) assert.throws(() => parseStoreConfig(env), { code: "CONFIG_INVALID", message });
});
