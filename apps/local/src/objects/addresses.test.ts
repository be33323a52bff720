import assert from "node:assert/strict";
import { test } from "node:test";
import { canonicalIp, cidrContains, parseCidr } from "@tulle/base";
import type { ServiceSpec } from "../resources/kinds.ts";
import { addressPlan, clusterIpsOf, MAX_SERVICES, meshCidrs, NumberPool, PODS_PER_NODE } from "./addresses.ts";

const plan = addressPlan(201, true);

function inRange(cidrs: readonly string[], ip: string | undefined): boolean {
  return cidrs.some((text) => {
    const cidr = parseCidr(text);
    return cidr !== undefined && ip !== undefined && cidrContains(cidr, ip);
  });
}

test("every pod and service address is canonical, unique and inside the mesh's ranges", () => {
  const seen = new Set<string>();
  const pairs = [
    ...plan.nodes.flatMap((node) => Array.from({ length: PODS_PER_NODE }, (_, index) => node.podAddress(index))),
    ...Array.from({ length: MAX_SERVICES }, (_, index) => plan.serviceAddress(index)),
  ];
  for (const { v4, v6 } of pairs) {
    for (const ip of [v4, v6 ?? ""]) {
      assert.equal(canonicalIp(ip), ip);
      assert.ok(inRange(meshCidrs(plan), ip), ip);
      assert.ok(!seen.has(ip), ip);
      seen.add(ip);
    }
  }
});

test("every address leads back to its number, and no other does", () => {
  for (const node of plan.nodes) {
    for (const number of [0, 1, PODS_PER_NODE - 1]) assert.equal(node.podNumber(node.podAddress(number)), number);
    assert.equal(node.podNumber({ ...node.podAddress(0), v6: undefined }), undefined);
    assert.equal(node.podNumber({ v4: "10.202.1.10", v6: undefined }), undefined);
  }
  for (const number of [0, 255, MAX_SERVICES - 1]) {
    const { v4, v6 = "" } = plan.serviceAddress(number);
    assert.deepEqual([plan.serviceNumber(v4), plan.serviceNumber(v6)], [number, number]);
  }
  assert.equal(plan.serviceNumber("None"), undefined);
});

test("the gateway and the nodes are not part of the mesh's ranges", () => {
  for (const { v4, v6 } of [plan.gateway, plan.controlPlane, ...plan.nodes.map((node) => node.address)]) {
    assert.ok(!inRange(meshCidrs(plan), v4));
    assert.ok(!inRange(meshCidrs(plan), v6));
  }
});

test("a machine without IPv6 gets no IPv6 address", () => {
  const only = addressPlan(201, false);
  assert.equal(only.gateway.v6, undefined);
  assert.equal(only.nodes[0]?.podAddress(0).v6, undefined);
  assert.ok(meshCidrs(only).every((cidr) => !cidr.includes(":")));
});

test("a number is kept by its owner and not given to the next one at once", () => {
  const pool = new NumberPool(3);
  assert.deepEqual([pool.take("a"), pool.take("b"), pool.take("a")], [0, 1, 0]);
  pool.release("a");
  assert.equal(pool.take("c"), 2);
  assert.equal(pool.take("d"), 0);
  assert.equal(pool.take("e"), undefined);
});

test("a number of before is its owner's again, and nobody else's", () => {
  const pool = new NumberPool(3);
  assert.equal(pool.adopt("a", 1), true);
  assert.deepEqual([pool.adopt("b", 1), pool.adopt("a", 2), pool.adopt("c", 3)], [false, false, false]);
  assert.deepEqual([pool.take("a"), pool.take("b"), pool.take("c"), pool.take("d")], [1, 2, 0, undefined]);
});

const families: readonly (readonly [spec: ServiceSpec, clusterIPs: readonly string[]])[] = [
  [{}, ["10.201.128.1"]],
  [{ ipFamilyPolicy: "PreferDualStack" }, ["10.201.128.1", "fd74:756c:6c00:c9:ffff::1"]],
  [{ ipFamilies: ["IPv6"] }, ["fd74:756c:6c00:c9:ffff::1"]],
  [{ ipFamilies: ["IPv6", "IPv4"] }, ["fd74:756c:6c00:c9:ffff::1", "10.201.128.1"]],
  [{ clusterIP: "None" }, ["None"]],
];

for (const [spec, clusterIPs] of families) {
  test(`a service of ${JSON.stringify(spec)} gets ${clusterIPs.join(" and ")}`, () => {
    const service = { apiVersion: "v1", kind: "Service", metadata: { name: "a", namespace: "b" }, spec };
    assert.deepEqual(clusterIpsOf(service, plan.serviceAddress(0)).clusterIPs, clusterIPs);
  });
}
