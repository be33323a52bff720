import assert from "node:assert/strict";
import { connect, createServer, type Server, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { sleep } from "@tulle/base";
import {
  CLUSTER_ROLE,
  CLUSTER_ROLE_BINDING,
  CONFIG_MAP,
  CUSTOM_RESOURCE_DEFINITION,
  type KubeConnection,
  type KubeObject,
  kubeconfigConnection,
  KubernetesStore,
  NODE,
  TOKEN_REVIEW,
  WORKLOAD_ENTRY,
} from "@tulle/store";
import { type KubeApiServer, startKubeApiServer } from "@tulle/testkit";

/** The rest of the machine may be busy; each wait says what it waits for. */
const PATIENCE_MS = 20_000;
const NAMESPACE = "default";

describe("KubernetesStore on a real API server", () => {
  let server: KubeApiServer;
  let connection: KubeConnection;
  let store: KubernetesStore;

  before(async () => {
    server = await startKubeApiServer();
    connection = await kubeconfigConnection({ KUBECONFIG: server.kubeconfig });
    store = new KubernetesStore({ connection, component: "tulle-test" });
  });
  after(async () => {
    await store?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  const make = (name: string) =>
    store.create(CONFIG_MAP, { apiVersion: "v1", kind: "ConfigMap", metadata: { namespace: NAMESPACE, name } });
  const touch = (name: string, value: string) =>
    store.patch(CONFIG_MAP, { namespace: NAMESPACE, name }, { type: "merge", body: { data: { value } } });

  test("a watch goes on where it was when the API server was killed and comes back", async () => {
    await make("resume");
    using seen = record(store, "resume");
    await seen.watch.whenSynced();
    await server.stop();
    await until("the problem to be told", () => seen.watch.state.problem !== undefined);
    assert.match(seen.watch.state.problem ?? "", /cannot reach the API server at https:/);
    assert.equal(seen.watch.size, 1, "the last known state stays");
    await server.start();
    await touch("resume", "1");
    await until("the change", () => seen.calls.length === 3);
    assert.deepEqual(seen.calls, ["put resume ", "synced", "put resume 1"]);
    assert.equal(seen.watch.state.problem, undefined);
  });

  test("a watch whose history is gone (410) is told what really changed, and nothing else", async () => {
    await using gate = await openGate(server.server);
    await using behind = new KubernetesStore({
      connection: { ...connection, server: gate.server },
      component: "tulle-test",
      pageSize: 2,
    });
    for (const name of ["same", "changed", "deleted", "remade"]) await make(name);
    using seen = record(behind, undefined);
    await seen.watch.whenSynced();
    const told = seen.calls.length;
    gate.close();
    await store.delete(CONFIG_MAP, { namespace: NAMESPACE, name: "deleted" });
    await store.delete(CONFIG_MAP, { namespace: NAMESPACE, name: "remade" });
    await touch("changed", "1");
    await make("remade");
    await make("added");
    await server.compact();
    await server.stop();
    await server.start();
    gate.open();
    await until("the added object", () => seen.watch.get({ namespace: NAMESPACE, name: "added" }) !== undefined);
    assert.deepEqual(new Set(seen.calls.slice(told)), new Set(CHANGES));
    assert.equal(seen.calls.length - told, CHANGES.length);
    assert.ok(seen.calls.lastIndexOf("gone remade ") < seen.calls.lastIndexOf("put remade "));
    assert.equal(seen.calls.filter((call) => call === "synced").length, 1);
  });

  test("a CRD that is installed later is followed from then on, and is empty again without it", async () => {
    await using own = new KubernetesStore({ connection, component: "tulle-test", timings: { missingKindMs: 100 } });
    const calls: string[] = [];
    const tell = (what: string) => (object: KubeObject) => void calls.push(`${what} ${object.metadata.name}`);
    using watch = own.watch(WORKLOAD_ENTRY, { put: tell("put"), gone: tell("gone") });
    await watch.whenSynced();
    assert.equal(watch.size, 0);
    await store.create(CUSTOM_RESOURCE_DEFINITION, WORKLOAD_ENTRY_CRD);
    const entry: KubeObject = {
      apiVersion: "networking.istio.io/v1",
      kind: "WorkloadEntry",
      metadata: { namespace: NAMESPACE, name: "vm" },
    };
    await until("the kind to be served", () =>
      store.create(WORKLOAD_ENTRY, entry).then(
        () => true,
        () => false,
      ),
    );
    await until("the object", () => calls.length === 1);
    await store.delete(CUSTOM_RESOURCE_DEFINITION, { name: WORKLOAD_ENTRY_CRD.metadata.name });
    await until("the object to go with its kind", () => calls.length === 2);
    assert.deepEqual(calls, ["put vm", "gone vm"]);
  });

  test("what the role does not allow is a problem that names verb and kind, until it is allowed", async () => {
    await using stranger = new KubernetesStore({
      connection: { ...connection, authorization: async () => `Bearer ${server.strangerToken}` },
      component: "tulle-stranger",
    });
    await assert.rejects(stranger.list(NODE), { code: "FORBIDDEN", message: /the role needs: list on nodes/ });
    using watch = stranger.watch(NODE, { put() {}, gone() {} });
    await until("the problem", () => watch.state.problem !== undefined);
    assert.match(watch.state.problem ?? "", /cannot list resource "nodes".*list on nodes/);
    assert.equal(watch.state.synced, false);
    const apiGroup = "rbac.authorization.k8s.io";
    await store.apply(
      CLUSTER_ROLE,
      {
        apiVersion: `${apiGroup}/v1`,
        kind: "ClusterRole",
        metadata: { name: "nodes" },
        rules: [{ apiGroups: [""], resources: ["nodes"], verbs: ["list", "watch"] }],
      },
      { manager: "test" },
    );
    await store.apply(
      CLUSTER_ROLE_BINDING,
      {
        apiVersion: `${apiGroup}/v1`,
        kind: "ClusterRoleBinding",
        metadata: { name: "nodes" },
        roleRef: { apiGroup, kind: "ClusterRole", name: "nodes" },
        subjects: [{ apiGroup, kind: "User", name: "stranger" }],
      },
      { manager: "test" },
    );
    await watch.whenSynced(AbortSignal.timeout(PATIENCE_MS));
    assert.equal(watch.state.problem, undefined);
  });

  test("a token that nobody gave out is refused, and a server that the CA does not know is not spoken to", async () => {
    const authorization = async () => "Bearer nobody";
    await using unknown = new KubernetesStore({ connection: { ...connection, authorization }, component: "x" });
    await assert.rejects(unknown.list(NODE), { code: "FORBIDDEN", message: /does not accept the credentials/ });
    const { ca: _ca, ...tls } = connection.tls;
    await using astray = new KubernetesStore({ connection: { ...connection, tls }, component: "x" });
    await assert.rejects(astray.list(NODE), { code: "UNAVAILABLE", message: /certificate/ });
  });

  test("reviews are created and answered", async () => {
    const review = await store.create(TOKEN_REVIEW, {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenReview",
      metadata: { name: "" },
      spec: { token: server.strangerToken },
    });
    assert.deepEqual([review.status?.authenticated, review.status?.user?.username], [true, "stranger"]);
  });
});

const CHANGES = ["put changed 1", "gone deleted ", "gone remade ", "put remade ", "put added "];

const WORKLOAD_ENTRY_CRD: KubeObject = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "workloadentries.networking.istio.io" },
  spec: {
    group: "networking.istio.io",
    names: {
      plural: "workloadentries",
      singular: "workloadentry",
      kind: "WorkloadEntry",
      listKind: "WorkloadEntryList",
    },
    scope: "Namespaced",
    versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema: { type: "object" } } }],
  },
};

function record(store: KubernetesStore, name: string | undefined) {
  const calls: string[] = [];
  const tell = (what: string) => (object: KubeObject & { readonly data?: Readonly<Record<string, string>> }) =>
    void calls.push(`${what} ${object.metadata.name} ${object.data?.value ?? ""}`);
  const handler = { put: tell("put"), gone: tell("gone"), synced: () => void calls.push("synced") };
  const fields = name === undefined ? {} : { fields: { "metadata.name": name } };
  const watch = store.watch(CONFIG_MAP, handler, { namespace: NAMESPACE, ...fields });
  return { watch, calls, [Symbol.dispose]: () => watch.close() };
}

interface Gate extends AsyncDisposable {
  readonly server: string;
  close(): void;
  open(): void;
}

/** A way to the server that can be shut: connections break, and new ones are refused at once. */
async function openGate(target: string): Promise<Gate> {
  const port = Number(new URL(target).port);
  const sockets = new Set<Socket>();
  let isOpen = true;
  const gate: Server = createServer((socket) => {
    if (!isOpen) {
      socket.destroy();
      return;
    }
    const onward = connect(port, "127.0.0.1");
    for (const [one, other] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => gate.listen(0, "127.0.0.1", resolve));
  const close = () => {
    isOpen = false;
    for (const socket of sockets) socket.destroy();
  };
  return {
    server: `https://127.0.0.1:${(gate.address() as { port: number }).port}`,
    close,
    open: () => {
      isOpen = true;
    },
    [Symbol.asyncDispose]: async () => {
      close();
      await new Promise((resolve) => gate.close(resolve));
    },
  };
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited ${PATIENCE_MS / 1000} s for: ${what}`);
    await sleep(20);
  }
}
