import assert from "node:assert/strict";
import { test } from "node:test";
import { canonicalIp, cidrContains, parseCidr } from "@tulle/base";
import type { ServiceSpec } from "../resources/kinds.ts";
import { addressPlan, MAX_SERVICES, meshCidrs, NumberPool, PODS_PER_NODE, withClusterIps } from "./addresses.ts";

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

test("the gateway and the nodes are not part of the mesh's ranges", () => {
  for (const { v4, v6 } of [plan.gateway, ...plan.nodes.map((node) => node.address)]) {
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

const families: readonly (readonly [spec: ServiceSpec, clusterIPs: readonly string[]])[] = [
  [{}, ["10.201.128.1"]],
  [{ ipFamilyPolicy: "PreferDualStack" }, ["10.201.128.1", "fd74:756c:6c00:c9:ffff::1"]],
  [{ ipFamilies: ["IPv6"] }, ["fd74:756c:6c00:c9:ffff::1"]],
  [{ ipFamilies: ["IPv6", "IPv4"] }, ["fd74:756c:6c00:c9:ffff::1", "10.201.128.1"]],
  [{ clusterIP: "None" }, ["None"]],
];

for (const [spec, clusterIPs] of families) {
  test(`a service of ${JSON.stringify(spec)} gets ${clusterIPs.join(" and ")}`, () => {
    const service = withClusterIps(
      { apiVersion: "v1", kind: "Service", metadata: { name: "a", namespace: "b" }, spec },
      plan.serviceAddress(0),
    );
    assert.deepEqual(service.spec.clusterIPs, clusterIPs);
  });
}
