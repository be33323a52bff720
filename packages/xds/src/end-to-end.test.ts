import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, wds } from "@tulle/api";
import { silentLog } from "@tulle/base";
import { startTestControlPlane, type TestControlPlane, type WorkloadInit } from "@tulle/testkit";
import { proxyNode, type Rejection, XdsClient, type XdsTypeHandler, type XdsUpdate } from "./index.ts";
import { until } from "./scripted-server.fixture.ts";

type ChannelOptions = Parameters<TestControlPlane["connect"]>[0];

const NODE = proxyNode({ podName: "ztunnel-x", podNamespace: "istio-system", nodeName: "n1" });

function workload(index: number, more: WorkloadInit = {}): WorkloadInit {
  const address = Uint8Array.of(10, (index >> 16) & 255, (index >> 8) & 255, index & 255);
  return { uid: `c//Pod/ns/p${index}`, name: `p${index}`, namespace: "ns", node: "n2", addresses: [address], ...more };
}

/** Holds names only. */
class Names implements XdsTypeHandler {
  readonly typeUrl: string;
  readonly mode: "wildcard" | "on-demand";
  readonly held = new Set<string>();
  updates = 0;

  constructor(typeUrl: string, mode: "wildcard" | "on-demand" = "wildcard") {
    this.typeUrl = typeUrl;
    this.mode = mode;
  }

  apply({ resources, removed }: XdsUpdate): Rejection[] {
    this.updates++;
    for (const { name } of resources) this.held.add(name);
    for (const name of removed) this.held.delete(name);
    return [];
  }
}

function connect(plane: TestControlPlane, types: readonly Names[], options: ChannelOptions = {}) {
  const bytes: number[] = [];
  const client = new XdsClient({
    open: () => plane.connect(options),
    node: NODE,
    types,
    log: silentLog,
    metrics: { onMessage: (_, count) => bytes.push(count) },
  });
  const stop = new AbortController();
  const running = client.run(stop.signal);
  const end = async () => {
    stop.abort();
    await running;
  };
  return { client, bytes, [Symbol.asyncDispose]: end };
}

test("over TLS: a proxy gets the mesh, every change, and is ready when it has everything", async () => {
  await using plane = await startTestControlPlane();
  plane.putWorkloads(...Array.from({ length: 2000 }, (_, i) => workload(i)));
  plane.putServices({ namespace: "ns", hostname: "s.ns.svc.cluster.local" });
  const addresses = new Names(ADDRESS_TYPE);
  const policies = new Names(AUTHORIZATION_TYPE);
  await using rig = connect(plane, [addresses, policies]);
  await rig.client.whenReady();
  assert.equal(addresses.held.size, 2001);
  assert.equal(addresses.updates, 1, "the first answer is whole");
  plane.putPolicies({ namespace: "ns", name: "deny" });
  plane.removeAddresses("c//Pod/ns/p7", "ns/s.ns.svc.cluster.local");
  plane.putWorkloads(workload(5000));
  await until(() => policies.held.has("ns/deny") && addresses.held.has("c//Pod/ns/p5000"));
  assert.equal(addresses.held.size, 2000);
  assert.equal(addresses.held.has("c//Pod/ns/p7"), false);
  plane.removePolicies("ns/deny");
  await until(() => policies.held.size === 0);
  assert.equal(plane.ads.clients().length, 1);
  await rig[Symbol.asyncDispose]();
  await until(() => plane.ads.clients().length === 0, "the server to notice that the proxy is gone");
});

test("over TLS: a control plane that restarts with the same content sends nothing again", async () => {
  const first = await startTestControlPlane();
  const put = (plane: TestControlPlane) => plane.putWorkloads(...Array.from({ length: 500 }, (_, i) => workload(i)));
  put(first);
  const { authority } = first.ca;
  await using second = await startTestControlPlane({ authority });
  put(second);
  second.removeAddresses("c//Pod/ns/p0");
  second.putWorkloads(workload(1, { name: "changed" }));
  let plane = first;
  const addresses = new Names(ADDRESS_TYPE);
  const bytes: number[] = [];
  const client = new XdsClient({
    open: () => plane.connect(),
    node: NODE,
    types: [addresses],
    log: silentLog,
    metrics: { onMessage: (_, count) => bytes.push(count) },
  });
  const stop = new AbortController();
  const running = client.run(stop.signal);
  await client.whenReady();
  plane = second;
  await first.close();
  await until(() => addresses.updates === 2, "the second control plane's answer");
  assert.equal(addresses.held.size, 499);
  assert.ok((bytes[1] ?? 0) < 100, `${bytes[1]} bytes for one changed workload`);
  stop.abort();
  await running;
});

test("over TLS: an on-demand proxy has its own node's workloads, and finds others by address", async () => {
  await using plane = await startTestControlPlane();
  plane.putWorkloads(workload(1, { node: "n1" }), workload(2), workload(3, { services: { "ns/s": {} } }));
  plane.putServices({ namespace: "ns", hostname: "s", addresses: [{ address: Uint8Array.of(10, 96, 0, 1) }] });
  const addresses = new Names(ADDRESS_TYPE, "on-demand");
  await using rig = connect(plane, [addresses, new Names(AUTHORIZATION_TYPE)]);
  await until(() => addresses.held.size === 1);
  assert.deepEqual([...addresses.held], ["c//Pod/ns/p1"]);
  await rig.client.demand(ADDRESS_TYPE, "/10.0.0.2");
  assert.deepEqual([...addresses.held], ["c//Pod/ns/p1", "c//Pod/ns/p2"]);
  await rig.client.demand(ADDRESS_TYPE, "/10.9.9.9");
  assert.equal(addresses.held.size, 2);
  await rig.client.demand(ADDRESS_TYPE, "ns/s");
  assert.deepEqual([...addresses.held].sort(), ["c//Pod/ns/p1", "c//Pod/ns/p2", "c//Pod/ns/p3", "ns/s"]);
});

test("over TLS: a refusal reaches the control plane with its names", async () => {
  await using plane = await startTestControlPlane();
  plane.putWorkloads(workload(1));
  const picky = new Names(ADDRESS_TYPE);
  picky.apply = ({ resources }) => resources.map(({ name }) => ({ name, reason: "no" }));
  await using rig = connect(plane, [picky]);
  await until(() => plane.nacks.length === 1);
  assert.equal(plane.nacks[0]?.message, "c//Pod/ns/p1: no");
  assert.equal(rig.client.ready, false);
});

test("over TLS: neither a wrong token nor a wrong root gets a stream", async () => {
  await using plane = await startTestControlPlane();
  await using stranger = await startTestControlPlane();
  const wrong: ChannelOptions[] = [
    { token: { kind: "literal", token: "wrong" } },
    { token: { kind: "none" } },
    { roots: { kind: "pem", pem: stranger.ca.authority.rootsPem } },
  ];
  for (const options of wrong) {
    let attempts = 0;
    const addresses = new Names(ADDRESS_TYPE);
    const client = new XdsClient({
      open: () => plane.connect(options),
      node: NODE,
      types: [addresses],
      log: silentLog,
      metrics: { onTermination: () => void attempts++ },
    });
    const stop = new AbortController();
    const running = client.run(stop.signal);
    await until(() => attempts >= 2);
    stop.abort();
    await running;
    assert.equal(client.ready, false);
    assert.equal(addresses.updates, 0);
  }
});

test("what goes over the wire is what the caller has encoded", async () => {
  await using plane = await startTestControlPlane();
  plane.putWorkloads(workload(258, { canonicalName: "app" }));
  const seen: Uint8Array[] = [];
  const addresses = new Names(ADDRESS_TYPE);
  addresses.apply = ({ resources }) => {
    seen.push(...resources.map(({ bytes }) => bytes));
    return [];
  };
  await using rig = connect(plane, [addresses]);
  await rig.client.whenReady();
  const { type } = fromBinary(wds.AddressSchema, seen[0] ?? new Uint8Array());
  assert.equal(type.case, "workload");
  assert.equal(type.case === "workload" && type.value.canonicalName, "app");
  assert.deepEqual(type.case === "workload" && [...(type.value.addresses[0] ?? [])], [10, 0, 1, 2]);
});
