import assert from "node:assert/strict";
import { test } from "node:test";
import type { KubeObject } from "@tulle/store";
import { assertGolden } from "../../test/golden.ts";
import { memoryCluster } from "../../test/memory-cluster.ts";
import { tulle } from "../../test/run-cli.ts";
import { shopObjects } from "../../test/shop.ts";
import { readCrds } from "../install/manifests/crds.ts";

const CRDS = readCrds().map((crd) => ({ ...crd, status: { conditions: [{ type: "Established", status: "True" }] } }));

/** `rights`: what the API server says to questions about them. */
const check = (objects: readonly KubeObject[], args: readonly string[] = [], rights = true) =>
  tulle(["check", ...args], {
    connect: async () => {
      const cluster = await memoryCluster(objects);
      const create = () => Promise.resolve({ status: { allowed: rights } });
      return { ...cluster, store: Object.assign(cluster.store, { create }) };
    },
  });

function webhook(name: string, service: object): KubeObject {
  return {
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: "ValidatingWebhookConfiguration",
    metadata: { name },
    webhooks: [
      { name: "rev.validation.istio.io", clientConfig: { service }, rules: [{ apiGroups: ["security.istio.io"] }] },
    ],
  };
}

function labelled(
  objects: readonly KubeObject[],
  name: string,
  labels: Readonly<Record<string, string>>,
): KubeObject[] {
  return objects.map((object) =>
    object.metadata.name === name && object.kind === "Namespace"
      ? { ...object, metadata: { ...object.metadata, labels: { ...object.metadata.labels, ...labels } } }
      : object,
  );
}

test("a mesh that is well", async () => {
  const { out, exitCode } = await check([...shopObjects(), ...CRDS]);
  assert.equal(exitCode, 0, out);
  assertGolden("check/well.txt", out);
});

test("everything that is wrong is found, each with what to do", async () => {
  const objects = labelled(shopObjects({ agent: true, policy: true }), "shop", { "istio-injection": "enabled" })
    .filter(({ kind, metadata }) => !(kind === "ConfigMap" && metadata.namespace === "shop"))
    .map((object) => {
      if (object.kind !== "Node" || object.metadata.name !== "n2") return object;
      return {
        ...object,
        status: {
          conditions: [{ type: "Ready", status: "True" }],
          nodeInfo: { kernelVersion: "4.19.0", architecture: "arm64" },
        },
      };
    });
  const host = shopObjects()
    .filter(({ kind, metadata }) => kind === "Pod" && metadata.name === "cart")
    .map((pod) => ({ ...pod, metadata: { ...pod.metadata, name: "on-host" }, spec: { hostNetwork: true } }));
  const hook = webhook("istio-validator-istio-system", { namespace: "istio-system", name: "istiod" });
  const { out, exitCode } = await check([...objects, ...host, ...CRDS.slice(1), hook]);
  assert.equal(exitCode, 1);
  assertGolden("check/trouble.txt", out);
});

test("whatever the mesh says does not work is found, on every kind of object, and nobody else's conditions", async () => {
  const { out, exitCode } = await check([...shopObjects({ waypoint: true }), ...CRDS]);
  assert.equal(exitCode, 0, "warnings are no failures");
  assertGolden("check/waypoint.txt", out);
});

test("a line names a few, -o wide and data name all", async () => {
  const [till] = shopObjects({ agent: true }).filter(({ metadata }) => metadata.name === "till");
  assert.ok(till !== undefined);
  const pods = Array.from({ length: 7 }, (_, i) => ({ ...till, metadata: { ...till.metadata, name: `till-${i}` } }));
  const objects = [...shopObjects(), ...pods, ...CRDS.slice(7)];
  const { out } = await check(objects);
  assert.match(out, /✘ schemas are missing: (\S+, ){4}\S+ and 2 more\n/);
  assert.match(out, /✘ and 2 more pods\n {4}tulle check -o wide lists them\n/);
  const wide = await check(objects, ["-o", "wide"]);
  assert.match(wide.out, /✘ schemas are missing: (\S+, ){6}\S+\n/);
  assert.match(wide.out, /shop\/till-6 is meshed but not captured/);
  assert.match((await check(objects, ["-o", "json"])).out, /shop\/till-6 is meshed but not captured/);
});

test("before the installation", async () => {
  const nodes = shopObjects().filter(({ kind }) => kind === "Node");
  const { out, exitCode } = await check(nodes, ["--pre"]);
  assert.equal(exitCode, 0, out);
  assertGolden("check/pre.txt", out);
});

test("before the installation, rights that lack and another mesh are told", async () => {
  const foreign = shopObjects().map((object) => ({
    ...object,
    metadata: { ...object.metadata, labels: { "k8s-app": "istio-cni-node" } },
  }));
  const { out, exitCode } = await check(foreign, ["--pre"], false);
  assert.equal(exitCode, 1);
  assertGolden("check/pre-trouble.txt", out);
  assert.match(out, /✘ you may not: get namespaces, list namespaces,/);
  assert.match(
    out,
    /✘ DaemonSet istio-system\/istio-cni-node belongs to another mesh\n {4}remove it before installing/,
  );
});

test("findings come as data, too", async () => {
  assertGolden("check/trouble-yaml.txt", (await check([...shopObjects({ agent: true }), ...CRDS], ["-o", "yaml"])).out);
  const { out } = await check([...shopObjects(), ...CRDS], ["-o", "json"]);
  assertGolden("check/well-json.txt", out);
  const findings = JSON.parse(out) as readonly { state: string; text: string }[];
  assert.ok(
    findings.every(({ state }) => state === "ok"),
    out,
  );
});

test("an answering webhook of somebody else is nobody's business", async () => {
  const others = {
    ...webhook("other", { namespace: "x", name: "y" }),
    webhooks: [{ name: "a.example", clientConfig: { service: { namespace: "x", name: "y" } } }],
  };
  const { out, exitCode } = await check([...shopObjects(), ...CRDS, others]);
  assert.equal(exitCode, 0, out);
});
