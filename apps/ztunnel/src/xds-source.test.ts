import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { silentLog } from "@tulle/base";
import { type MeshChange, MeshState } from "@tulle/mesh";
import { MainMetrics } from "@tulle/telemetry";
import { startTestControlPlane, type TestControlPlane } from "@tulle/testkit";
import type { Config } from "./config.ts";
import { startXdsSource, type XdsSource } from "./xds-source.ts";

let plane: TestControlPlane;
let source: XdsSource;
const state = new MeshState();
/** A change of this workload cannot be sent to the data threads. */
const TOO_LARGE = "too-large";

function apply(changes: readonly MeshChange[]): void {
  if (changes.some((change) => change.kind === "workload" && change.workload.uid === TOO_LARGE)) {
    throw new Error("the change is too large");
  }
  for (const change of changes) state.apply(change);
}

before(async () => {
  plane = await startTestControlPlane();
  plane.putWorkloads({ uid: "w1", name: "w1", namespace: "ns", addresses: [Uint8Array.of(10, 0, 0, 1)] });
  const xds = {
    address: plane.address,
    roots: { kind: "pem", pem: plane.ca.authority.rootsPem },
    altHostname: undefined,
    headers: {},
    node: { id: "ztunnel~1.1.1.1~z.istio-system~istio-system.svc.cluster.local", metadata: { NODE_NAME: "n" } },
  };
  const config = { xds, token: { kind: "literal", token: "node-token" }, clusterId: "Kubernetes" } as unknown as Config;
  source = startXdsSource({ config, state, apply, metrics: new MainMetrics(), log: silentLog });
  await source.ready;
});

after(async () => {
  source.close();
  await plane.close();
});

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`waited 10 s for ${what}`);
}

test("what the control plane holds at the start is there once the source is ready", () => {
  assert.equal(state.workload("w1")?.addresses[0], "10.0.0.1");
  assert.equal(state.synced, false, "to say so is the business of whoever waits for every source");
});

test("workloads, services and policies come and go", async () => {
  plane.putServices({ name: "s", namespace: "ns", hostname: "s.ns", ports: [{ servicePort: 80, targetPort: 8080 }] });
  plane.putPolicies({ name: "p", namespace: "ns" });
  await until(() => state.service("ns/s.ns") !== undefined && state.policy("ns/p") !== undefined, "service and policy");
  plane.removeAddresses("w1", "ns/s.ns");
  plane.removePolicies("ns/p");
  await until(() => {
    return (
      state.workload("w1") === undefined && state.service("ns/s.ns") === undefined && state.policy("ns/p") === undefined
    );
  }, "all to be gone");
});

test("a resource that cannot be used is named in a NACK, and the others of its response are applied", async () => {
  plane.putWorkloads(
    { uid: "bad", name: "bad", namespace: "ns", addresses: [Uint8Array.of(1, 2, 3)] },
    { uid: "good", name: "good", namespace: "ns" },
  );
  await until(() => state.workload("good") !== undefined, "the good one");
  await until(() => plane.nacks.some(({ message }) => message.startsWith("bad: ")), "the NACK");
  assert.equal(state.workload("bad"), undefined);
});

test("one that is too large for the data threads takes no other with it", async () => {
  plane.putWorkloads(
    { uid: TOO_LARGE, name: "x", namespace: "ns" },
    { uid: "beside", name: "beside", namespace: "ns" },
  );
  await until(() => state.workload("beside") !== undefined, "the other one");
  await until(() => plane.nacks.some(({ message }) => message.includes(TOO_LARGE)), "the NACK");
});
