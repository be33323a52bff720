import assert from "node:assert/strict";
import { test } from "node:test";
import { LEAVING_ANNOTATION, LEFT_ANNOTATION, REDIRECTION_ANNOTATION } from "@tulle/base";
import { POD } from "@tulle/store";
import { TestMesh, until } from "../testing/test-mesh.fixture.ts";

const CART = "Kubernetes//Pod/shop/cart";
const enabled = { [REDIRECTION_ANNOTATION]: "enabled" };
const leaving = { [LEAVING_ANNOTATION]: "id-1" };

function left(mesh: TestMesh): string | undefined {
  return mesh.store.find(POD, { namespace: "shop", name: "cart" })?.metadata.annotations?.[LEFT_ANNOTATION];
}

test("a pod has left when every connected proxy has acknowledged it, the slow one too", async () => {
  await using mesh = await TestMesh.start();
  mesh.putPod({ name: "cart", annotations: enabled });
  const open = Promise.withResolvers<void>();
  let slow = false;
  const fast = await mesh.ztunnel(mesh.putZtunnel("n1"));
  const lazy = await mesh.ztunnel(mesh.putZtunnel("n2"), { gate: () => (slow ? open.promise : Promise.resolve()) });
  await until(() => fast.addresses.get(CART) === "HBONE" && lazy.addresses.get(CART) === "HBONE");
  slow = true;
  mesh.putPod({ name: "cart", annotations: leaving });
  await until(() => fast.addresses.get(CART) === "TCP" && lazy.addresses.get(CART) === "TCP", "both were told");
  // Both know, but one has not said so.
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(left(mesh), undefined);
  open.resolve();
  await until(() => left(mesh) === "id-1", "the pod has left");
});

test("a proxy that connects with an old state is waited for", async () => {
  await using mesh = await TestMesh.start();
  mesh.putPod({ name: "cart", annotations: enabled });
  const ztunnel = mesh.putZtunnel("n1");
  mesh.putZtunnel("n2");
  const first = await mesh.ztunnel(ztunnel);
  await until(() => first.client.ready);
  const open = Promise.withResolvers<void>();
  const second = await mesh.ztunnel(mesh.putZtunnel("n2"), { gate: () => open.promise });
  await until(() => second.addresses.has(CART), "the second is connected");
  mesh.putPod({ name: "cart", annotations: leaving });
  await until(() => first.addresses.get(CART) === "TCP");
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(left(mesh), undefined, "the second has acknowledged nothing yet");
  open.resolve();
  await until(() => left(mesh) === "id-1", "the pod has left");
});

test("a proxy that goes away is not waited for longer than a while, and one that leaves the cluster not at all", async () => {
  await using mesh = await TestMesh.start();
  mesh.putPod({ name: "cart", annotations: enabled });
  const first = await mesh.ztunnel(mesh.putZtunnel("n1"));
  const never = new Promise<void>(() => undefined);
  const second = await mesh.ztunnel(mesh.putZtunnel("n2"), { gate: () => never });
  await until(() => first.addresses.has(CART) && second.addresses.has(CART));
  mesh.putPod({ name: "cart", annotations: leaving });
  await until(() => first.addresses.get(CART) === "TCP");
  mesh.store.drop(POD, { namespace: "istio-system", name: "ztunnel-n2" });
  await until(() => left(mesh) === "id-1", "the pod has left");
});

test("a pod that is still captured has not left, nor has one that took its name", async () => {
  await using mesh = await TestMesh.start();
  mesh.store.drop(POD, { namespace: "istio-system", name: "ztunnel-n2" });
  const proxy = await mesh.ztunnel(mesh.putZtunnel("n1"));
  mesh.putPod({ name: "cart", annotations: { ...enabled, ...leaving } });
  await until(() => proxy.addresses.get(CART) === "HBONE");
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(left(mesh), undefined);
  let writes = 0;
  mesh.store.onWrite = (verb, kind) => {
    if (verb !== "patch" || kind.plural !== "pods") return;
    writes++;
    // Between the decision and the write the pod was replaced.
    if (writes === 1)
      mesh.store.put(POD, { ...podOf(mesh), metadata: { ...podOf(mesh).metadata, uid: "other", annotations: {} } });
  };
  mesh.putPod({ name: "cart", annotations: leaving });
  await until(() => writes >= 1);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(left(mesh), undefined);
});

test("a pod that claims to be captured while it leaves is told of anew when the claim has gone", async () => {
  await using mesh = await TestMesh.start();
  mesh.store.drop(POD, { namespace: "istio-system", name: "ztunnel-n2" });
  mesh.putPod({ name: "cart", annotations: enabled });
  let gate = Promise.resolve();
  const proxy = await mesh.ztunnel(mesh.putZtunnel("n1"), { gate: () => gate });
  await until(() => proxy.addresses.get(CART) === "HBONE");
  const open = Promise.withResolvers<void>();
  gate = open.promise;
  mesh.putPod({ name: "cart", annotations: leaving });
  mesh.putPod({ name: "cart", annotations: { ...enabled, ...leaving } });
  mesh.putPod({ name: "cart", annotations: leaving });
  await until(() => proxy.addresses.get(CART) === "TCP");
  assert.equal(left(mesh), undefined, "nothing is acknowledged yet");
  open.resolve();
  await until(() => left(mesh) === "id-1", "the pod has left");
});

function podOf(mesh: TestMesh) {
  const pod = mesh.store.find(POD, { namespace: "shop", name: "cart" });
  assert.ok(pod);
  return pod;
}
