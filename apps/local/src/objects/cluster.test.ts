import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { silentLog } from "@tulle/base";
import { readFile } from "../resources/read-file.ts";
import type { ResourceSet } from "../resources/resource-set.ts";
import { addressPlan } from "./addresses.ts";
import { Cluster, type PodStart } from "./cluster.ts";
import { ObjectStore } from "./object-store.ts";
import { isReady, type Pod, withStatus } from "./pod.ts";

const NAMESPACE =
  "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}\n";

function web(replicas: number, label = "v1"): string {
  return `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: ${label}}}
    spec:
      containers:
      - name: web
        image: web
        args: [--verbose]
        env:
        - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: COLOUR, value: blue}
`;
}

function set(...documents: readonly string[]): ResourceSet {
  const { resources, problems } = readFile("f.yaml", documents.join("---\n"));
  assert.deepEqual(problems, []);
  return { resources: resources.map(({ resource }) => resource), images: new Map([["web", ["node", "web.ts"]]]) };
}

/** A cluster whose pods are only written down. */
function setUp() {
  const store = new ObjectStore();
  const running = new Map<string, PodStart & { meshed: boolean }>();
  const cluster = new Cluster({
    plan: addressPlan(201, true),
    store,
    systemPods: [],
    runId: "test",
    log: silentLog,
    start: (start) => {
      const pod = { ...start };
      running.set(start.pod.metadata.uid, pod);
      return {
        setMeshed: (wanted) => {
          pod.meshed = wanted;
        },
        stop: () => {
          running.delete(start.pod.metadata.uid);
          return Promise.resolve();
        },
      };
    },
  });
  const settle = async () => {
    for (let turns = 0; turns < 10; turns++) await turn();
  };
  const becomeReady = async () => {
    for (const { report } of running.values()) {
      report((pod) => withStatus(pod, { conditions: [{ type: "Ready", status: "True" }] }));
    }
    await settle();
  };
  return { store, cluster, running, settle, becomeReady };
}

test("pods are spread over the nodes, with addresses, command, arguments and environment", () => {
  const { store, cluster, running } = setUp();
  cluster.apply(set(NAMESPACE, web(3)));
  const { pods } = store.current;
  assert.deepEqual(
    pods.map((pod) => [pod.spec.nodeName, pod.status.podIP]),
    [
      ["node-1", "10.201.1.10"],
      ["node-2", "10.201.2.10"],
      ["node-1", "10.201.1.11"],
    ],
  );
  const [first] = running.values();
  assert.deepEqual(first?.containers[0]?.command, ["node", "web.ts", "--verbose"]);
  assert.deepEqual(first?.containers[0]?.env, { NODE: "node-1", COLOUR: "blue" });
  assert.equal(first?.meshed, true);
});

test("a pod that goes away and comes back has another uid", async () => {
  const { store, cluster, settle } = setUp();
  cluster.apply(set(NAMESPACE, web(1)));
  const only = (): Pod | undefined => store.current.pods[0];
  const before = only();
  cluster.apply(set(NAMESPACE, web(0)));
  await settle();
  assert.equal(only(), undefined);
  cluster.apply(set(NAMESPACE, web(1)));
  const after = only();
  assert.equal(after?.metadata.name, before?.metadata.name);
  assert.notEqual(after?.metadata.uid, before?.metadata.uid);
  assert.notEqual(after?.status.podIP, before?.status.podIP);
});

test("a changed template replaces the pod when the new one is ready", async () => {
  const { store, cluster, becomeReady, settle } = setUp();
  cluster.apply(set(NAMESPACE, web(1)));
  await becomeReady();
  cluster.apply(set(NAMESPACE, web(1, "v2")));
  await settle();
  assert.deepEqual(
    store.current.pods.map((pod) => [pod.metadata.labels.version, isReady(pod)]),
    [
      ["v1", true],
      ["v2", false],
    ],
  );
  await becomeReady();
  assert.deepEqual(
    store.current.pods.map((pod) => pod.metadata.labels.version),
    ["v2"],
  );
});

test("taking the label away takes running pods out of the mesh", () => {
  const { cluster, running } = setUp();
  cluster.apply(set(NAMESPACE, web(1)));
  cluster.apply(set(NAMESPACE.replace("ambient", "none"), web(1)));
  assert.deepEqual(
    [...running.values()].map(({ meshed }) => meshed),
    [false],
  );
});

test("a service keeps its address while others come and go", () => {
  const { store, cluster } = setUp();
  const service = (name: string) =>
    `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: shop}\nspec: {ports: [{port: 80}]}\n`;
  const addresses = () =>
    Object.fromEntries(store.current.services.map((one) => [one.metadata.name, one.spec.clusterIP]));
  cluster.apply(set(NAMESPACE, service("a"), service("b")));
  assert.deepEqual(addresses(), { a: "10.201.128.1", b: "10.201.128.2" });
  cluster.apply(set(NAMESPACE, service("c"), service("b")));
  assert.deepEqual(addresses(), { b: "10.201.128.2", c: "10.201.128.3" });
});

test("closing ends every pod", async () => {
  const { cluster, running } = setUp();
  cluster.apply(set(NAMESPACE, web(4)));
  await cluster.close();
  assert.equal(running.size, 0);
});
