import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { CAPTURED_CONDITION, INSTALLATION_LABEL, REDIRECTION_ANNOTATION } from "@tulle/base";
import { until } from "@tulle/lab";
import {
  AUTHORIZATION_POLICY,
  CLUSTER_ROLE,
  CONFIG_MAP,
  CUSTOM_RESOURCE_DEFINITION,
  DAEMON_SET,
  DEPLOYMENT,
  NAMESPACE,
  POD,
  type KubeObject,
  type Store,
} from "@tulle/store";
import { type KubeApiServer, startKubeApiServer } from "@tulle/testkit";
import { instantRollouts } from "../../test/instant-rollouts.ts";
import { assertGolden } from "../../test/golden.ts";
import { type Outcome, tulle } from "../../test/run-cli.ts";
import type { Cluster } from "../kube/cluster.ts";
import { connectCluster } from "../kube/connect.ts";
import { readCrds } from "./manifests/crds.ts";

/** Against a real API server; a double stands in for its controllers. In the order of an installation's life. */

let server: KubeApiServer;
let cluster: Cluster;
let store: Store;
let rollouts: Disposable;

before(async () => {
  server = await startKubeApiServer();
  cluster = await connectCluster({ kubeconfig: server.kubeconfig }, {});
  store = cluster.store;
  rollouts = instantRollouts(store);
});

after(async () => {
  rollouts[Symbol.dispose]();
  await cluster[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const run = (...args: string[]) =>
  tulle(args, { connect: (options) => connectCluster({ ...options, kubeconfig: server.kubeconfig }, {}) });

/** Times, machine paths and the order of parts that become ready at once are of this run only. */
function steady({ out, error }: Outcome): string {
  const text = error.replaceAll(/\d+\.\d s\)/g, "<time>)").replaceAll(/(.* is ready \(.*\n){2,}/g, (lines) =>
    lines
      .split(/(?<=\n)/)
      .toSorted()
      .join(""),
  );
  return `${text}--- standard output\n${out}`.replaceAll(server.kubeconfig, "<kubeconfig>");
}

const ISTIOD = { namespace: "istio-system", name: "istiod" };

test("a dry run says what would be made, and makes nothing", async () => {
  const outcome = await run("install", "--dry-run");
  const { error, exitCode } = outcome;
  assert.equal(exitCode, 0, error);
  assertGolden("install/dry-run.txt", steady(outcome));
  assert.match(error, /✔ Deployment istiod would be created\n/);
  assert.match(error, /✔ schemas \(CRDs\): 25 would be created\n/);
  assert.equal(await store.get(NAMESPACE, { name: "istio-system" }), undefined);
});

test("install applies everything and waits until it is ready", async () => {
  const outcome = await run("install", "--set", "global.imagePullPolicy=Never");
  const { out, error, exitCode } = outcome;
  assert.equal(exitCode, 0, error);
  assertGolden("install/install.txt", steady(outcome));
  assert.match(error, /✔ schemas \(CRDs\): 25 created\n/);
  for (const part of ["istiod is ready (1 of 1,", "ztunnel is ready (2 of 2,", "istio-cni-node is ready (2 of 2,"]) {
    assert.ok(error.includes(`✔ ${part}`), error);
  }
  assert.match(out, /kubectl label namespace default istio.io\/dataplane-mode=ambient/);
  assert.equal((await store.list(CUSTOM_RESOURCE_DEFINITION)).length, 25);
});

type Access = readonly [account: string, verb: string, resource: string, namespace: string, name: string];

const ALLOWED: readonly Access[] = [
  ["istiod", "watch", "pods", "", ""],
  ["istiod", "list", "endpointslices.discovery.k8s.io", "", ""],
  ["istiod", "watch", "authorizationpolicies.security.istio.io", "", ""],
  ["istiod", "patch", "authorizationpolicies/status.security.istio.io", "default", "a"],
  ["istiod", "patch", "pods/status", "default", "a"],
  ["istiod", "create", "tokenreviews.authentication.k8s.io", "", ""],
  ["istiod", "create", "events", "default", ""],
  ["istiod", "watch", "configmaps", "", "istio-ca-root-cert"],
  ["istiod", "create", "configmaps", "default", "istio-ca-root-cert"],
  ["istiod", "patch", "configmaps", "default", "istio-ca-root-cert"],
  ["istiod", "list", "configmaps", "istio-system", "istio"],
  ["istiod", "get", "secrets", "istio-system", "istio-ca-secret"],
  ["istiod", "create", "secrets", "istio-system", ""],
  ["istio-cni", "watch", "pods", "", ""],
  ["istio-cni", "get", "namespaces", "", "default"],
  ["istio-cni", "patch", "pods/status", "default", "a"],
  ["istio-cni", "get", "daemonsets.apps", "istio-system", "istio-cni-node"],
  ["istio-cni", "get", "nodes", "", "n1"],
  ["istio-cni", "watch", "configmaps", "istio-system", "istio"],
];

const DENIED: readonly Access[] = [
  ["istiod", "list", "secrets", "", ""],
  ["istiod", "list", "secrets", "istio-system", ""],
  ["istiod", "get", "secrets", "istio-system", "other"],
  ["istiod", "get", "secrets", "default", "istio-ca-secret"],
  ["istiod", "create", "secrets", "default", ""],
  ["istiod", "delete", "secrets", "istio-system", "istio-ca-secret"],
  ["istiod", "list", "configmaps", "", ""],
  ["istiod", "get", "configmaps", "kube-system", "extension-apiserver-authentication"],
  ["istiod", "create", "configmaps", "default", "other"],
  ["istiod", "delete", "configmaps", "default", "istio-ca-root-cert"],
  ["istiod", "patch", "pods", "default", "a"],
  ["istiod", "delete", "pods", "default", "a"],
  ["istiod", "create", "pods", "default", ""],
  ["istiod", "patch", "authorizationpolicies.security.istio.io", "default", "a"],
  ["istiod", "create", "clusterroles.rbac.authorization.k8s.io", "", ""],
  ["istio-cni", "get", "secrets", "istio-system", "istio-ca-secret"],
  ["istio-cni", "list", "configmaps", "", ""],
  ["istio-cni", "list", "configmaps", "istio-system", ""],
  ["istio-cni", "patch", "pods", "default", "a"],
  ["istio-cni", "delete", "pods", "default", "a"],
  ["istio-cni", "patch", "nodes", "", "n1"],
  ["istio-cni", "list", "nodes", "", ""],
  ["istio-cni", "patch", "daemonsets.apps", "istio-system", "istio-cni-node"],
  ["istio-cni", "get", "daemonsets.apps", "istio-system", "ztunnel"],
  ["ztunnel", "get", "pods", "istio-system", "a"],
  ["ztunnel", "get", "secrets", "istio-system", "istio-ca-secret"],
];

test("the parts may do what they need, and nothing else", async () => {
  for (const [accesses, wanted] of [
    [ALLOWED, true],
    [DENIED, false],
  ] as const) {
    for (const access of accesses) assert.equal(await mayDo(access), wanted, access.join(" "));
  }
});

test("a second install changes nothing", async () => {
  const { error, exitCode } = await run("install", "--set", "global.imagePullPolicy=Never");
  assert.equal(exitCode, 0, error);
  assert.doesNotMatch(error, /created|configured|removed/);
  const dry = await run("install", "--set", "global.imagePullPolicy=Never", "--dry-run");
  assertGolden("install/dry-run-unchanged.txt", steady(dry));
  assert.doesNotMatch(dry.error, /would be/);
});

test("an upgrade changes what is different, and removes what is not made any more", async () => {
  const stale = {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "once", namespace: "istio-system", labels: { "tulle.dev/installation": "istio-system" } },
  };
  await store.create(CONFIG_MAP, stale);
  const users = { ...stale, metadata: { name: "users-own", namespace: "istio-system" } };
  await store.create(CONFIG_MAP, users);
  const outcome = await run("install", "--set", "ztunnel.logLevel=debug");
  const { error, exitCode } = outcome;
  assert.equal(exitCode, 0, error);
  assertGolden("install/upgrade.txt", steady(outcome));
  assert.match(error, /✔ DaemonSet ztunnel configured\n/);
  assert.match(error, /✔ ConfigMap once is not part of it any more: removed\n/);
  assert.equal(await store.get(CONFIG_MAP, stale.metadata), undefined);
  assert.notEqual(await store.get(CONFIG_MAP, users.metadata), undefined);
  // The control plane is waited for before its proxies change.
  assert.ok(error.indexOf("istiod is ready") < error.indexOf("DaemonSet ztunnel configured"), error);
});

test("newer schemas of Gateway API stay as they are", async () => {
  const name = "gateways.gateway.networking.k8s.io";
  const annotation = "gateway.networking.k8s.io/bundle-version";
  const set = (version: string) =>
    store.patch(
      CUSTOM_RESOURCE_DEFINITION,
      { name },
      {
        type: "merge",
        body: { metadata: { annotations: { [annotation]: version } } },
      },
    );
  await set("v1.10.0");
  const { error } = await run("install");
  assert.match(error, /1 kept \(the cluster has Gateway API v1\.10\.0\)/);
  const crd = await store.get(CUSTOM_RESOURCE_DEFINITION, { name });
  assert.equal(crd?.metadata.annotations?.[annotation], "v1.10.0");
});

test("install refuses beside another mesh, and beside a Tulle in another namespace", async () => {
  const elsewhere = await run("install", "--istio-namespace", "mesh");
  assert.equal(elsewhere.exitCode, 1);
  assertGolden("install/beside-tulle.txt", steady(elsewhere));
  assert.match(elsewhere.error, /error: Tulle is installed in the namespace istio-system already/);
  assert.match(elsewhere.error, /next: upgrade that one: tulle install --istio-namespace istio-system/);

  const foreign = daemonSet("kube-system", "istio-cni-node", { "k8s-app": "istio-cni-node" });
  await store.create(DAEMON_SET, foreign);
  const beside = await run("install");
  assert.equal(beside.exitCode, 1);
  assertGolden("install/beside-another.txt", steady(beside));
  assert.match(beside.error, /another mesh is installed: DaemonSet kube-system\/istio-cni-node;/);
  assert.match(beside.error, /next: remove the other one first/);
  await store.delete(DAEMON_SET, foreign.metadata);
});

test("somebody at the terminal is asked, and may say no", async () => {
  let asked = "";
  const outcome = await tulle(["install"], {
    connect: () => connectCluster({ kubeconfig: server.kubeconfig }, {}),
    ask: (question) => {
      asked = question;
      return Promise.resolve("n");
    },
  });
  assert.match(asked, /^Upgrade to Tulle \d.* in the namespace istio-system of kubeconfig .*\? \[y\/N\] $/);
  assert.equal(outcome.exitCode, 1);
  assert.match(outcome.error, /nothing was changed/);
});

test("what is not ready in time is an error that names the reason", async () => {
  rollouts[Symbol.dispose]();
  const { error, exitCode } = await run("install", "--set", "ztunnel.logLevel=trace", "--timeout", "1");
  rollouts = instantRollouts(store);
  assert.equal(exitCode, 1);
  assert.match(error, /error: not ready after 1 s:\n {2}- ztunnel: there are no pods yet\n/);
  assert.match(error, /next: look closer: kubectl -n istio-system describe pods/);
});

test("no rights at the API server is an error that says what to do", async () => {
  const file = `${server.kubeconfig}.stranger`;
  writeFileSync(file, readFileSync(server.kubeconfig, "utf8").replace(server.token, server.strangerToken));
  const { error, exitCode } = await tulle(["install", "--kubeconfig", file], {
    connect: (options) => connectCluster(options, {}),
  });
  assert.equal(exitCode, 1);
  assert.match(error, /forbidden/);
  assert.match(error, /next: ask the cluster's administrator/);
});

test("uninstall without purge keeps schemas, their objects and the namespace, and leaves no mark on pods", async () => {
  const marked = { namespace: "default", name: "marked" };
  await store.create(POD, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { ...marked, annotations: { [REDIRECTION_ANNOTATION]: "enabled", "users.example/own": "stays" } },
    spec: { containers: [{ name: "app", image: "app" }] },
  });
  const conditions = ["Users", CAPTURED_CONDITION].map((type) => ({ type, status: "True" }));
  await store.patch(POD, marked, { type: "merge", body: { status: { conditions } } }, { subresource: "status" });

  const outcome = await run("uninstall");
  const { out, error, exitCode } = outcome;
  assert.equal(exitCode, 0, error);
  assertGolden("uninstall/uninstall.txt", steady(outcome));
  assert.match(
    error,
    /the node agent did not release default\/marked \(no node\): its marks are gone, but restart these pods/,
  );
  const pod = await store.get(POD, marked);
  assert.deepEqual(pod?.metadata.annotations, { "users.example/own": "stays" });
  assert.deepEqual(
    pod?.status?.conditions?.map(({ type }) => type),
    ["Users"],
  );
  assert.ok(error.indexOf("DaemonSet istio-cni-node removed") < error.indexOf("DaemonSet ztunnel removed"), error);
  assert.ok(error.indexOf("DaemonSet ztunnel removed") < error.indexOf("Deployment istiod removed"), error);
  assert.match(out, /kept \(--purge removes them\)/);
  assert.equal(await store.get(DEPLOYMENT, ISTIOD), undefined);
  const roles = await store.list(CLUSTER_ROLE, { labels: { "tulle.dev/installation": "istio-system" } });
  assert.deepEqual(roles, []);
  assert.equal((await store.list(CUSTOM_RESOURCE_DEFINITION)).length, 25);
  assert.notEqual(await store.get(CONFIG_MAP, { namespace: "istio-system", name: "users-own" }), undefined);
});

test("uninstall where there is nothing says so", async () => {
  const { error, exitCode } = await run("uninstall");
  assert.equal(exitCode, 1);
  assert.match(error, /Tulle is not installed in the namespace istio-system/);
});

test("purge lists what is lost, wants a word, and takes schemas and namespace away", async () => {
  const policy = {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "mine", namespace: "default" },
    spec: {},
  };
  const kind = {
    group: "security.istio.io",
    version: "v1",
    kind: "AuthorizationPolicy",
    plural: "authorizationpolicies",
    namespaced: true,
  };
  await store.create(kind, policy);
  const silent = await run("uninstall", "--purge");
  assert.equal(silent.exitCode, 1);
  assertGolden("uninstall/purge-list.txt", steady(silent));
  assert.match(silent.out, /schema authorizationpolicies\.security\.istio\.io with 1 objects:\n {4}default\/mine\n/);
  assert.match(silent.error, /nobody is there to be asked/);
  assert.equal((await store.list(CUSTOM_RESOURCE_DEFINITION)).length, 25);

  const outcome = await run("uninstall", "--purge", "-y");
  const { error, exitCode } = outcome;
  assert.equal(exitCode, 0, error);
  assertGolden("uninstall/purge.txt", steady(outcome));
  assert.match(error, /✔ Namespace istio-system removed/);
  const left = (await store.list(CUSTOM_RESOURCE_DEFINITION)).filter(
    ({ metadata }) => metadata.deletionTimestamp === undefined,
  );
  assert.deepEqual(
    left.map(({ metadata }) => metadata.name),
    [],
  );
});

test("a namespace that is being deleted is waited for by the user, not by the installation", async () => {
  const { error, exitCode } = await run("install");
  assert.equal(exitCode, 1);
  assert.match(error, /namespaces istio-system is being deleted\n {2}next: wait until it is gone/);
});

test("a namespace and schemas that were there before are used, and outlive the installation and its purge", async () => {
  await until(async () => (await store.list(CUSTOM_RESOURCE_DEFINITION)).length === 0, {
    what: "the purged schemas to be gone",
  });
  const earlier = ["authorizationpolicies.security.istio.io", "gateways.gateway.networking.k8s.io"];
  for (const crd of readCrds()) {
    if (earlier.includes(crd.metadata.name)) await store.create(CUSTOM_RESOURCE_DEFINITION, crd);
  }
  const labels = { "users.example/own": "stays" };
  await store.create(NAMESPACE, { apiVersion: "v1", kind: "Namespace", metadata: { name: "mesh", labels } });

  for (const round of ["an installation", "an upgrade"]) {
    const { error, exitCode } = await run("install", "-i", "mesh");
    assert.equal(exitCode, 0, error);
    assert.match(error, /✔ Namespace mesh kept \(it was there before\)\n/);
    for (const name of earlier) {
      const crd = await store.get(CUSTOM_RESOURCE_DEFINITION, { name });
      assert.equal(crd?.metadata.labels?.[INSTALLATION_LABEL], undefined, `${name} after ${round}`);
    }
    const namespace = await store.get(NAMESPACE, { name: "mesh" });
    assert.deepEqual(namespace?.metadata.labels, { ...labels, "kubernetes.io/metadata.name": "mesh" }, round);
  }
  const policy = { namespace: "default", name: "theirs" };
  await store.create(AUTHORIZATION_POLICY, {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: policy,
    spec: {},
  });

  const listed = await run("uninstall", "--purge", "-i", "mesh");
  assertGolden("uninstall/purge-list-kept.txt", steady(listed));
  const { out } = listed;
  assert.match(
    out,
    /kept, because they were there before Tulle:\n {2}schema authorizationpolicies\.security\.istio\.io\n {2}schema gateways\.gateway\.networking\.k8s\.io\n {2}namespace mesh\n/,
  );
  assert.doesNotMatch(out, /default\/theirs|with everything in it/);
  const { error, exitCode } = await run("uninstall", "--purge", "-y", "-i", "mesh");
  assert.equal(exitCode, 0, error);
  const left = (await store.list(CUSTOM_RESOURCE_DEFINITION)).filter(
    ({ metadata }) => metadata.deletionTimestamp === undefined,
  );
  assert.deepEqual(left.map(({ metadata }) => metadata.name).toSorted(), earlier);
  assert.notEqual(await store.get(AUTHORIZATION_POLICY, policy), undefined);
  assert.equal((await store.get(NAMESPACE, { name: "mesh" }))?.metadata.deletionTimestamp, undefined);
});

function daemonSet(namespace: string, name: string, labels: Readonly<Record<string, string>>): KubeObject {
  const template = { metadata: { labels }, spec: { containers: [{ name: "c", image: "none.invalid/none:1" }] } };
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name, namespace, labels },
    spec: { selector: { matchLabels: labels }, template },
  };
}

async function mayDo([account, verb, resource, namespace, name]: Access): Promise<boolean> {
  const [path = "", ...group] = resource.split(".");
  const [plural, subresource] = path.split("/");
  const kind = {
    group: "authorization.k8s.io",
    version: "v1",
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    namespaced: false,
  };
  const { status } = await store.create<KubeObject>(kind, {
    apiVersion: "authorization.k8s.io/v1",
    kind: "SubjectAccessReview",
    metadata: { name: "" },
    spec: {
      user: `system:serviceaccount:istio-system:${account}`,
      resourceAttributes: { verb, group: group.join("."), resource: plural, subresource, namespace, name },
    },
  });
  return (status as { allowed?: boolean }).allowed === true;
}
