import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openStore, SERVICE_ACCOUNT } from "@tulle/store";
import { tulle } from "../../test/run-cli.ts";
import { openDirectoryCluster } from "./directory-cluster.ts";

test("get reads the state folder of a mesh without an API server; other commands say that they cannot", async () => {
  const state = mkdtempSync(join(tmpdir(), "tulle-cli-"));
  try {
    const env = { TULLE_STORE: "directory", TULLE_STORE_STATE: state };
    await using store = await openStore({ component: "test", env });
    const metadata = { namespace: "default", name: "robot" };
    await store.create(SERVICE_ACCOUNT, { apiVersion: "v1", kind: "ServiceAccount", metadata });
    const connect = () => openDirectoryCluster(env);
    const { out, error } = await tulle(["get", "sa"], { connect });
    assert.match(out, /^NAME +AGE\nrobot +\d+s\n$/, error);
    const status = await tulle(["status"], { connect });
    assert.equal(status.exitCode, 1);
    assert.match(status.error, /has no API server\n {2}next: /);
  } finally {
    rmSync(state, { recursive: true });
  }
});
