import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { ADDRESS_TYPE, core } from "@tulle/api";
import { DEFAULT_MESH_SETTINGS, MeshIndex } from "@tulle/mesh/convert";
import { createMetrics } from "./metrics.ts";

function metrics() {
  return createMetrics({
    version: "1",
    sizes: () => new MeshIndex(DEFAULT_MESH_SETTINGS).sizes,
    streams: () => 0,
    connectedZtunnels: () => 0,
    leavingPods: () => 0,
    rootExpiry: () => 0,
    chainExpiry: () => 0,
    synced: () => true,
    watchProblems: () => [],
  });
}

test("a proxy that refuses what it was sent has not converged", () => {
  const { ads, set } = metrics();
  const peer = { principal: "p", node: create(core.NodeSchema) };
  ads.onAck?.(peer, { typeUrl: ADDRESS_TYPE, tookMs: 40, accepted: true });
  ads.onAck?.(peer, { typeUrl: ADDRESS_TYPE, tookMs: 9000, accepted: false });
  assert.match(set.text(), /^pilot_proxy_convergence_time_count 1$/m);
  assert.match(set.text(), /^pilot_proxy_convergence_time_sum 0\.04$/m);
});

test("a push is counted by the time that it waited and the time that it took", () => {
  const { ads, set } = metrics();
  ads.onPushed?.({ typeUrl: ADDRESS_TYPE, queuedMs: 20, tookMs: 3 });
  const text = set.text();
  assert.match(text, /^pilot_proxy_queue_time_bucket\{le="0\.01"\} 0$/m);
  assert.match(text, /^pilot_proxy_queue_time_bucket\{le="0\.025"\} 1$/m);
  assert.match(text, /^pilot_xds_push_time_bucket\{type="wds",le="0\.005"\} 1$/m);
});

test("resources that could not be encoded are counted by kind", () => {
  const { onLeftOut, set } = metrics();
  for (const kind of ["service", "service", "policy"]) onLeftOut(kind);
  assert.match(set.text(), /^tulle_unencodable_resources_total\{kind="service"\} 2$/m);
  assert.match(set.text(), /^tulle_unencodable_resources_total\{kind="policy"\} 1$/m);
});
