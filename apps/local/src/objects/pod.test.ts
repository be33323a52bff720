import assert from "node:assert/strict";
import { test } from "node:test";
import { type Pod, wantsMesh } from "./pod.ts";

const MODE = "istio.io/dataplane-mode";

function wanted(namespace: string, own: Readonly<Record<string, string>>, home: Readonly<Record<string, string>>) {
  const pod: Pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", namespace, labels: own },
    spec: { nodeName: "n1", serviceAccountName: "default", containers: [] },
  };
  return wantsMesh(pod, { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace, labels: home } });
}

test("a pod is to be captured when the node agent will capture it, so that nobody waits for what does not come", () => {
  assert.equal(wanted("shop", {}, { [MODE]: "ambient" }), true);
  assert.equal(wanted("shop", { [MODE]: "none" }, { [MODE]: "ambient" }), false);
  assert.equal(wanted("kube-system", { [MODE]: "ambient" }, { [MODE]: "ambient" }), false);
  assert.equal(wanted("istio-system", { app: "ztunnel" }, { [MODE]: "ambient" }), false);
});
