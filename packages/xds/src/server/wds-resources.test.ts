import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { core, security, wds } from "@tulle/api";
import { ADDRESSES, addressResource, authorizationResource, WORKLOADS } from "./wds-resources.ts";

test("a workload is named by its uid and found by its addresses, services and node", () => {
  const value = create(wds.WorkloadSchema, {
    uid: "c//Pod/ns/p",
    network: "net1",
    node: "n1",
    addresses: [Uint8Array.of(10, 0, 0, 1), Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)],
    services: { "ns/a.example": {}, "ns/b.example": {} },
  });
  const { name, aliases, groups } = addressResource(create(wds.AddressSchema, { type: { case: "workload", value } }));
  assert.equal(name, "c//Pod/ns/p");
  assert.deepEqual(aliases, ["net1/10.0.0.1", "net1/fd00::1"]);
  assert.deepEqual(groups, ["ns/a.example", "ns/b.example", "node:n1"]);
});

test("a service is named by namespace and host, and found by its addresses and ranges", () => {
  const value = create(wds.ServiceSchema, {
    namespace: "ns",
    hostname: "s.example",
    addresses: [
      { address: Uint8Array.of(10, 96, 0, 1) },
      { network: "n", address: Uint8Array.of(10, 1, 0, 0), length: 16 },
      { network: "n", address: Uint8Array.of(10, 2, 0, 1), length: 32 },
    ],
  });
  const { name, aliases } = addressResource(create(wds.AddressSchema, { type: { case: "service", value } }));
  assert.equal(name, "ns/s.example");
  assert.deepEqual(aliases, ["/10.96.0.1", "n/10.1.0.0/16", "n/10.2.0.1"]);
});

test("an Address that is nothing is not served", () => {
  assert.throws(() => addressResource(create(wds.AddressSchema)), /a workload or a service/);
});

test("a policy is named by namespace and name", () => {
  const policy = create(security.AuthorizationSchema, { namespace: "ns", name: "deny" });
  assert.equal(authorizationResource(policy).name, "ns/deny");
});

test("a proxy's own node stands in its metadata", () => {
  const implied = (metadata: Record<string, string>) =>
    ADDRESSES.impliedKeys?.({ principal: "", node: create(core.NodeSchema, { id: "x", metadata }) });
  assert.deepEqual(implied({ NODE_NAME: "n1" }), ["node:n1"]);
  assert.deepEqual(implied({}), []);
});

test("a node's key is internal, names and addresses are not", () => {
  for (const { isInternal } of [ADDRESSES, WORKLOADS]) {
    assert.deepEqual(
      ["node:n1", "node:", "node:c//Pod/ns/p", "ns/node:x", "/10.0.0.1", "*"].map((key) => isInternal?.(key)),
      [true, true, false, false, false, false],
    );
  }
});
