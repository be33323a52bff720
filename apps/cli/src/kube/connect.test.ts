import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { CliError } from "../cli-error.ts";
import { AUTO } from "../command.ts";
import { connect } from "./connect.ts";

const KUBECONFIG = `apiVersion: v1
kind: Config
current-context: far
contexts: [{name: far, context: {cluster: far, user: me}}]
clusters: [{name: far, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: me, user: {token: t}}]
`;

function kubeconfig(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "tulle-cli-"));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, "config"), KUBECONFIG);
  return join(folder, "config");
}

test("a cluster that is configured wins, unless a local mesh is named", async (t) => {
  const path = kubeconfig(t);
  for (const [options, env] of [
    [{ local: AUTO }, { KUBECONFIG: path }],
    [{ local: AUTO, kubeconfig: path }, {}],
    [{}, { KUBECONFIG: path }],
  ] as const) {
    await using cluster = await connect(options, env);
    assert.ok(cluster.name.includes(path), cluster.name);
  }
});

test("a local mesh and a cluster cannot both be meant", async (t) => {
  const options = { local: "demo", kubeconfig: kubeconfig(t) };
  await assert.rejects(connect(options, {}), (error) => error instanceof CliError && /exclude/.test(error.message));
});

test("a local mesh that is not there is an error that says how to start one", async () => {
  await assert.rejects(connect({ local: "nobody" }, {}), (error) => {
    assert.ok(error instanceof CliError);
    assert.equal(error.message, "there is no local mesh nobody");
    assert.match(error.next, /tulle up/);
    return true;
  });
});
