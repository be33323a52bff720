import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ads, encoded, security, wds, zds } from "./index.ts";

/** Field number and wire type of each field in turn, as they stand on the wire. */
function fieldNumbers(bytes: Uint8Array): number[] {
  const numbers: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    let tag = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] ?? 0;
      tag |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    numbers.push(tag >> 3);
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] ?? 0;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    if ((tag & 7) === 2) at += value;
  }
  return numbers;
}

test("a workload is written under Istio's field numbers", () => {
  const text = "x";
  const workload = create(wds.WorkloadSchema, {
    uid: text,
    name: text,
    namespace: text,
    addresses: [new Uint8Array(4)],
    hostname: text,
    network: text,
    tunnelProtocol: wds.TunnelProtocol.HBONE,
    trustDomain: text,
    serviceAccount: text,
    waypoint: {},
    networkGateway: {},
    node: text,
    canonicalName: text,
    canonicalRevision: text,
    workloadType: wds.WorkloadType.POD,
    workloadName: text,
    nativeTunnel: true,
    applicationTunnel: {},
    services: { "ns/host": {} },
    authorizationPolicies: [text],
    status: wds.WorkloadStatus.UNHEALTHY,
    clusterId: text,
    locality: {},
    networkMode: wds.NetworkMode.HOST_NETWORK,
    extensions: [{}],
    capacity: 3,
  });
  const numbers = fieldNumbers(toBinary(wds.WorkloadSchema, workload)).sort((a, b) => a - b);
  assert.deepEqual(
    numbers,
    [...Array(27).keys()].map((i) => i + 1).filter((number) => number !== 15),
  );
});

test("a pod that is removed carries its uid in field 2, one that is kept in field 1", () => {
  const del = create(zds.WorkloadRequestSchema, { payload: { case: "del", value: { uid: "abc" } } });
  assert.equal(Buffer.from(toBinary(zds.WorkloadRequestSchema, del)).toString("hex"), "12051203616263");
  const keep = create(zds.WorkloadRequestSchema, { payload: { case: "keep", value: { uid: "abc" } } });
  assert.equal(Buffer.from(toBinary(zds.WorkloadRequestSchema, keep)).toString("hex"), "2a050a03616263");
});

test("matches stand in field 2 of a clause", () => {
  const clause = create(security.ClauseSchema, { matches: [{ destinationPorts: [80] }] });
  assert.deepEqual(fieldNumbers(toBinary(security.ClauseSchema, clause)), [2]);
});

test("a response with encoded resources reads as an ordinary delta response", () => {
  const resource = create(ads.ResourceSchema, { name: "a", version: "1", aliases: ["b"] });
  const response = create(encoded.EncodedDeltaDiscoveryResponseSchema, {
    systemVersionInfo: "7",
    resources: [toBinary(ads.ResourceSchema, resource)],
    typeUrl: "t",
    nonce: "n",
    removedResources: ["gone"],
  });
  const bytes = toBinary(encoded.EncodedDeltaDiscoveryResponseSchema, response);
  const read = fromBinary(ads.DeltaDiscoveryResponseSchema, bytes);
  assert.deepEqual(read.resources, [resource]);
  assert.deepEqual([read.systemVersionInfo, read.typeUrl, read.nonce], ["7", "t", "n"]);
  assert.deepEqual(read.removedResources, ["gone"]);
});
