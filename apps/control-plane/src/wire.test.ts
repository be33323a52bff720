import assert from "node:assert/strict";
import { test } from "node:test";
import { POD, SERVICE } from "@tulle/store";
import { TestMesh, until } from "./testing/test-mesh.fixture.ts";

test("a node proxy is sent the mesh, and a changed pod at once", async () => {
  await using mesh = await TestMesh.start();
  mesh.putPod({ name: "cart", annotations: { "ambient.istio.io/redirection": "enabled" } });
  const proxy = await mesh.ztunnel(mesh.putZtunnel("n1"));
  await until(() => proxy.addresses.get("Kubernetes//Pod/shop/cart") === "HBONE", "the pod is known");
  const took: number[] = [];
  for (let round = 0; round < 10; round++) {
    const name = `late-${round}`;
    const begin = performance.now();
    mesh.putPod({ name, ip: `10.1.1.${round + 1}` });
    await until(() => proxy.addresses.has(`Kubernetes//Pod/shop/${name}`));
    took.push(performance.now() - begin);
  }
  took.sort((a, b) => a - b);
  // A busy machine may be late with most, not with all.
  assert.ok((took[0] ?? Number.POSITIVE_INFINITY) < 50, `quickest ${took[0]} ms`);
  assert.ok((took[5] ?? Number.POSITIVE_INFINITY) < 1000, `median ${took[5]} ms`);
  const last = proxy.responses.at(-1);
  assert.equal(last?.length, 1, `one changed pod is one small push: ${last?.join(" ")}`);
  mesh.store.drop(POD, { namespace: "shop", name: "late-3" });
  await until(() => !proxy.addresses.has("Kubernetes//Pod/shop/late-3"), "the pod is gone");
});

test("who comes back with what it holds is sent the difference only", async () => {
  await using mesh = await TestMesh.start({ env: { TULLE_MAX_STREAM_AGE: "1s" } });
  const ztunnel = mesh.putZtunnel("n1");
  for (let i = 1; i <= 5; i++) mesh.putPod({ name: `p${i}`, ip: `10.1.0.${i}` });
  const proxy = await mesh.ztunnel(ztunnel);
  await until(() => proxy.client.ready && proxy.addresses.has("Kubernetes//Pod/shop/p5"));
  const opened = () => mesh.log.filter((line) => line.startsWith("discovery stream opened")).length;
  const before = opened();
  const responses = proxy.responses.length;
  await until(() => opened() > before && proxy.responses.length >= responses + 2, "the next stream is answered");
  assert.deepEqual(proxy.responses.slice(responses, responses + 2), [[], []]);
});

test("nothing is answered before the first state of every kind is known", async () => {
  await using mesh = await TestMesh.create();
  mesh.store.hold(SERVICE);
  mesh.putNamespace("istio-system");
  const pod = mesh.putZtunnel("n1");
  await mesh.run();
  const proxy = await mesh.ztunnel(pod);
  const ready = () => fetch(`http://127.0.0.1:${mesh.controlPlane.ports.http}/ready`);
  const before = await ready();
  assert.equal(before.status, 503);
  assert.equal(await before.text(), "not ready: waiting for Service\n");
  assert.equal(proxy.responses.length, 0);
  mesh.store.release(SERVICE);
  await until(() => proxy.client.ready, "the proxy is ready");
  assert.equal((await ready()).status, 200);
  assert.ok(proxy.addresses.has("Kubernetes//Pod/istio-system/ztunnel-n1"));
});

test("the stream of a pod that is gone ends, and does not come back", async () => {
  await using mesh = await TestMesh.start();
  const ztunnel = mesh.putZtunnel("n1");
  const proxy = await mesh.ztunnel(ztunnel);
  await until(() => proxy.client.ready);
  mesh.store.drop(POD, { namespace: "istio-system", name: "ztunnel-n1" });
  await until(() => mesh.log.some((line) => line.includes("its pod ztunnel-n1 is gone")), "the stream is ended");
  await until(() =>
    mesh.log.some((line) => line.includes("the pod istio-system/ztunnel-n1 of the token does not exist")),
  );
});

test("the end is graceful and bounded: streams are ended, the ports are free", async () => {
  const mesh = await TestMesh.start();
  const proxy = await mesh.ztunnel(mesh.putZtunnel("n1"));
  await until(() => proxy.client.ready);
  const { ports } = mesh.controlPlane;
  const begin = performance.now();
  await mesh[Symbol.asyncDispose]();
  assert.ok(performance.now() - begin < 20_000);
  await assert.rejects(fetch(`http://127.0.0.1:${ports.http}/ready`));
  await proxy.running;
});
