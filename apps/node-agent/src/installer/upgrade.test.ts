import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLog } from "@tulle/base";
import { type KubeObject, type Store, StoreError } from "@tulle/store";
import type { DaemonSet, NodeRequirement } from "../objects.ts";
import { isUpgrade } from "./upgrade.ts";

const NODE: KubeObject = {
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: "n1", labels: { os: "linux", pool: "a" } },
};
const DAEMON_SET: DaemonSet = {
  apiVersion: "apps/v1",
  kind: "DaemonSet",
  metadata: { name: "istio-cni-node", namespace: "istio-system" },
};

type Answer = () => KubeObject | undefined;

function ask(answer: Answer, node: Answer = () => NODE): Promise<boolean> {
  const get = (({ kind }: KubeObject) => Promise.try(kind === "Node" ? node : answer)) as unknown as Store["get"];
  return isUpgrade({ store: { get }, namespace: "istio-system", node: "n1", log: silentLog, pauseMs: 0 });
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

type PodTemplate = NonNullable<NonNullable<DaemonSet["spec"]>["template"]>["spec"];

const placed = (spec: PodTemplate): Answer => {
  return () => ({ ...DAEMON_SET, spec: { template: { spec } } });
};
type Term = {
  readonly matchExpressions?: readonly NodeRequirement[];
  readonly matchFields?: readonly NodeRequirement[];
};
const affinity = (...terms: readonly Term[]): PodTemplate => ({
  affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } } },
});
const affine = (...terms: readonly Term[]) => placed(affinity(...terms));
const pool = (operator: string, ...values: string[]): NodeRequirement => ({ key: "pool", operator, values });
const named = (name: string): NodeRequirement => ({ key: "metadata.name", operator: "In", values: [name] });

for (const [what, answer, expected] of [
  ["its selector", placed({ nodeSelector: { os: "linux", pool: "a" } }), true],
  ["not its selector", placed({ nodeSelector: { pool: "b" } }), false],
  ["its affinity", affine({ matchExpressions: [pool("In", "b", "a")] }), true],
  ["not its affinity", affine({ matchExpressions: [pool("NotIn", "a")] }), false],
  [
    "one of several terms",
    affine({ matchExpressions: [pool("In", "b")] }, { matchExpressions: [pool("Exists")] }),
    true,
  ],
  ["half of a term", affine({ matchExpressions: [pool("Exists"), pool("In", "b")] }), false],
  ["a term that asks nothing", affine({}), false],
  ["its name", affine({ matchFields: [named("n1")] }), true],
  ["not its name", affine({ matchFields: [named("n2")] }), false],
  [
    "the selector, not the affinity",
    placed({ ...affinity({ matchExpressions: [pool("In", "b")] }), nodeSelector: { pool: "a" } }),
    false,
  ],
  ["what cannot be understood", affine({ matchExpressions: [pool("Gt", "7")] }), true],
] as const) {
  test(`the DaemonSet stays, the node fits ${what}`, async () => assert.equal(await ask(answer), expected));
}

for (const [what, node] of [
  ["is not there", () => undefined],
  ["may not be read", failing("FORBIDDEN")],
  ["cannot be read", failing("UNAVAILABLE")],
] as const) {
  test(`the DaemonSet stays, the node ${what}: pods wait`, async () => {
    assert.equal(await ask(placed({ nodeSelector: { pool: "b" } }), node), true);
  });
}
