import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLog } from "@tulle/base";
import { type KubeObject, type Store, StoreError } from "@tulle/store";
import { isUpgrade } from "./upgrade.ts";

const DAEMON_SET: KubeObject = {
  apiVersion: "apps/v1",
  kind: "DaemonSet",
  metadata: { name: "istio-cni-node", namespace: "istio-system" },
};

function ask(answer: () => KubeObject | undefined): Promise<boolean> {
  const get = (() => Promise.try(answer)) as Store["get"];
  return isUpgrade({ store: { get }, namespace: "istio-system", log: silentLog, pauseMs: 0 });
}

function failing(code: ConstructorParameters<typeof StoreError>[0]) {
  return () => {
    throw new StoreError(code, "x");
  };
}

for (const [what, answer, expected] of [
  ["the DaemonSet is there: another agent follows", () => DAEMON_SET, true],
  [
    "it is being deleted",
    () => ({ ...DAEMON_SET, metadata: { ...DAEMON_SET.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" } }),
    false,
  ],
  ["it is gone", () => undefined, false],
  ["the rights are gone", failing("FORBIDDEN"), false],
  ["the API server does not answer: unknown, so pods wait", failing("UNAVAILABLE"), true],
] as const) {
  test(what, async () => assert.equal(await ask(answer), expected));
}

test("an API server that answers at the second try is believed", async () => {
  let tries = 0;
  const upgrade = await ask(() => {
    tries++;
    if (tries === 1) throw new StoreError("UNAVAILABLE", "x");
    return undefined;
  });
  assert.equal(upgrade, false);
});
