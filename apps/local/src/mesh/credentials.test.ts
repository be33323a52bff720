import assert from "node:assert/strict";
import { test } from "node:test";
import type { Caller } from "@tulle/pki";
import { NO_OBJECTS, type Objects } from "../objects/object-store.ts";
import type { Pod } from "../objects/pod.ts";
import { NodeCredentials } from "./credentials.ts";

function pod(name: string, node: string, metadata: Partial<Pod["metadata"]> = {}): Pod {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "shop", uid: name, labels: {}, annotations: {}, ...metadata },
    spec: { nodeName: node, serviceAccountName: name, containers: [] },
    status: { phase: "Running", podIP: "", podIPs: [], hostIP: "", conditions: [], containerStatuses: [] },
  };
}

const objects: Objects = {
  ...NO_OBJECTS,
  namespaces: [
    {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: "shop", namespace: "", labels: { "istio.io/dataplane-mode": "ambient" } },
    },
  ],
  pods: [
    pod("web", "node-1"),
    pod("db", "node-2"),
    pod("outside", "node-1", { labels: { "istio.io/dataplane-mode": "none" } }),
    pod("ending", "node-1", { deletionTimestamp: "now" }),
  ],
};

const credentials = new NodeCredentials({
  trustDomain: "cluster.local",
  clusterId: "Kubernetes",
  objects: () => objects,
});
const peer = { address: "", uris: [] };

async function callerOf(token: string): Promise<Caller> {
  const result = await credentials.authenticate({ token, clusterId: "Kubernetes", peer });
  assert.ok(result.ok, "the token is refused");
  return result.caller;
}

test("a token is good until the node gets a new one", async () => {
  const old = credentials.issue("node-1");
  assert.equal((await callerOf(old)).identity.serviceAccount, "ztunnel");
  const fresh = credentials.issue("node-1");
  assert.ok(!(await credentials.authenticate({ token: old, clusterId: undefined, peer })).ok);
  await callerOf(fresh);
});

test("no token, a made-up token and another cluster's request are refused with the reason", async () => {
  const token = credentials.issue("node-1");
  const reasons = [];
  for (const attempt of [
    { token: undefined, clusterId: undefined },
    { token: "made up", clusterId: undefined },
    { token, clusterId: "elsewhere" },
  ]) {
    const result = await credentials.authenticate({ ...attempt, peer });
    reasons.push(result.ok ? "accepted" : result.reason);
  }
  assert.deepEqual(reasons, [
    "there is no token",
    "the token is not one of this mesh",
    "the token is of cluster Kubernetes, the request says elsewhere",
  ]);
});

const cases: readonly (readonly [
  what: string,
  serviceAccount: string,
  node: string,
  trustDomain: string,
  reason: RegExp | undefined,
])[] = [
  ["an identity of its own node", "web", "node-1", "cluster.local", undefined],
  ["an identity of another node", "db", "node-1", "cluster.local", /there is no pod of it on node node-1/],
  ["that identity, asked for by its node", "db", "node-2", "cluster.local", undefined],
  ["an identity nobody has", "nobody", "node-1", "cluster.local", /there is no pod of it/],
  ["a pod outside the mesh", "outside", "node-1", "cluster.local", /no pod of it is in the mesh/],
  ["a pod that is going away", "ending", "node-1", "cluster.local", /no pod of it is in the mesh/],
  ["another trust domain", "web", "node-1", "elsewhere", /there is no pod of it/],
];

for (const [what, serviceAccount, node, trustDomain, reason] of cases) {
  test(`${what}: ${reason === undefined ? "signed" : "refused"}`, async () => {
    const caller = await callerOf(credentials.issue(node));
    const result = await credentials.authorize(caller, { trustDomain, namespace: "shop", serviceAccount });
    if (reason === undefined) assert.deepEqual(result, { ok: true });
    else assert.match(result.ok ? "signed" : result.reason, reason);
  });
}
