import assert from "node:assert/strict";
import { test } from "node:test";
import type { Deployment } from "../resources/kinds.ts";
import type { Pod } from "./pod.ts";
import { planReplicas, TEMPLATE_HASH_LABEL, uuidOf } from "./replicas.ts";

const NO_IMAGES = new Map<string, readonly string[]>();

function deployment(replicas: number, version = "v1"): Deployment {
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "web", namespace: "shop" },
    spec: {
      replicas,
      selector: { matchLabels: { app: "web" } },
      template: {
        metadata: { labels: { app: "web", version } },
        spec: { containers: [{ name: "web", command: ["web"] }] },
      },
    },
  };
}

interface PodState {
  readonly ready?: boolean;
  readonly deleting?: boolean;
}

/** The pods that a Deployment would have created, in the given states. */
function podsOf(of: Deployment, ...states: readonly PodState[]): Pod[] {
  return planReplicas({ ...of, spec: { ...of.spec, replicas: states.length } }, NO_IMAGES, []).create.map(
    ({ name, templateHash }, index): Pod => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: {
        name,
        namespace: "shop",
        uid: name,
        labels: { [TEMPLATE_HASH_LABEL]: templateHash },
        annotations: {},
        ...(states[index]?.deleting ? { deletionTimestamp: "now" } : {}),
      },
      spec: { nodeName: "node-1", serviceAccountName: "default", containers: [] },
      status: {
        phase: "Running",
        podIP: "",
        podIPs: [],
        hostIP: "",
        containerStatuses: [],
        conditions: [{ type: "Ready", status: states[index]?.ready ? "True" : "False" }],
      },
    }),
  );
}

const ready = { ready: true };
const waiting = { ready: false };

test("the same Deployment always gives the same names", () => {
  const names = () => planReplicas(deployment(3), NO_IMAGES, []).create.map(({ name }) => name);
  assert.deepEqual(names(), names());
  assert.equal(new Set(names()).size, 3);
  for (const name of names()) assert.match(name, /^web-[a-z0-9]{10}-[a-z0-9]{5}$/);
});

test("a changed template or a changed command of an image gives new names", () => {
  const [first] = planReplicas(deployment(1), NO_IMAGES, []).create;
  const [second] = planReplicas(deployment(1, "v2"), NO_IMAGES, []).create;
  assert.notEqual(first?.name, second?.name);
  const byImage: Deployment = structuredClone(deployment(1));
  Object.assign(byImage.spec.template.spec.containers[0] ?? {}, { command: undefined, image: "web" });
  const withCommand = (command: string) => planReplicas(byImage, new Map([["web", [command]]]), []).create[0]?.name;
  assert.notEqual(withCommand("a"), withCommand("b"));
});

const cases: readonly (readonly [
  what: string,
  of: Deployment,
  pods: readonly Pod[],
  create: number,
  remove: number,
])[] = [
  ["nothing to do", deployment(2), podsOf(deployment(2), ready, waiting), 0, 0],
  ["scaled up", deployment(3), podsOf(deployment(1), ready), 2, 0],
  ["scaled down", deployment(1), podsOf(deployment(3), ready, ready, ready), 0, 2],
  ["scaled to nothing", deployment(0), podsOf(deployment(2), ready, waiting), 0, 2],
  ["a name that is still going away is not taken", deployment(1), podsOf(deployment(1), { deleting: true }), 0, 0],
  [
    "a new template: the old pod stays until the new one is ready",
    deployment(1, "v2"),
    podsOf(deployment(1), ready),
    1,
    0,
  ],
  [
    "and goes then",
    deployment(1, "v2"),
    [...podsOf(deployment(1), ready), ...podsOf(deployment(1, "v2"), ready)],
    0,
    1,
  ],
  [
    "old pods go one by one, as new ones become ready",
    deployment(3, "v2"),
    [...podsOf(deployment(3), ready, ready, ready), ...podsOf(deployment(3, "v2"), ready, waiting, waiting)],
    0,
    1,
  ],
];

for (const [what, of, pods, create, remove] of cases) {
  test(what, () => {
    const plan = planReplicas(of, NO_IMAGES, pods);
    assert.deepEqual([plan.create.length, plan.remove.length], [create, remove]);
  });
}

test("a text gives a well-formed UUID", () => {
  assert.match(uuidOf("a"), /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.notEqual(uuidOf("a"), uuidOf("b"));
});
