import assert from "node:assert/strict";
import { test } from "node:test";
import { POD, type Pod } from "@tulle/store";
import { TestMesh, type TokenOptions } from "../testing/test-mesh.fixture.ts";

const CART = { trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart" };

/** As Istio's agent may have left it. */
const NOT_YET = { "ambient.istio.io/redirection": "pending" };

/** What a request leaves in the log, and what its sender is told. */
async function refused(mesh: TestMesh, request: Promise<unknown>): Promise<{ told: string; logged: string }> {
  const before = mesh.log.length;
  const told = await request.then(
    () => assert.fail("a certificate was issued"),
    (error: unknown) => (error as Error).message,
  );
  return { told, logged: mesh.log.slice(before).join("\n") };
}

test("a node's proxy gets a certificate of each account that has an enrolled pod on its node", async () => {
  await using mesh = await TestMesh.start();
  const token = await mesh.token(mesh.putZtunnel("n1"));
  mesh.putPod({ name: "cart-1", account: "cart" });
  const certificate = await mesh.certificate(token, CART);
  assert.equal(certificate.identity.serviceAccount, "cart");
  const hours = (certificate.notAfter - Date.now()) / 3_600_000;
  assert.ok(hours > 23 && hours <= 24, `${hours} hours`);
});

test("a node's proxy gets a certificate of its own account, though its pod is not in the mesh", async () => {
  await using mesh = await TestMesh.start();
  const proxy = mesh.putZtunnel("n1");
  const own = { trustDomain: "cluster.local", namespace: "istio-system", serviceAccount: "ztunnel" };
  const certificate = await mesh.certificate(await mesh.token(proxy), own);
  assert.equal(certificate.identity.serviceAccount, "ztunnel");
});

test("a pod counts by its own label, its namespace's, or what the agent has noted", async () => {
  await using mesh = await TestMesh.start();
  mesh.putNamespace("plain");
  const token = await mesh.token(mesh.putZtunnel("n1"));
  const cases: readonly (readonly [string, string, Parameters<TestMesh["putPod"]>[0]])[] = [
    ["own label", "a", { name: "a", namespace: "plain", labels: { "istio.io/dataplane-mode": "ambient" } }],
    ["noted", "b", { name: "b", namespace: "plain", annotations: { "ambient.istio.io/redirection": "enabled" } }],
    ["leaving", "c", { name: "c", namespace: "plain", annotations: { "ambient.tulle.dev/leaving": "1" } }],
  ];
  for (const [, serviceAccount, pod] of cases) {
    mesh.putPod({ ...pod, account: serviceAccount });
    await mesh.certificate(token, { ...CART, namespace: "plain", serviceAccount });
  }
});

test("which pods are in the mesh is the installation's to say, here as at the node agents", async () => {
  const selectors = [
    { podSelector: { matchLabels: { mesh: "yes" } }, namespaceSelector: { matchLabels: { tier: "front" } } },
  ];
  await using mesh = await TestMesh.start({
    env: { AMBIENT_ENABLEMENT_SELECTOR: JSON.stringify(selectors), EXCLUDE_NAMESPACES: "ci, storage" },
  });
  const token = await mesh.token(mesh.putZtunnel("n1"));
  for (const name of ["web", "ci"]) mesh.putNamespace(name, { tier: "front" });
  mesh.putNamespace("back");
  mesh.putNamespace("kube-system", { tier: "front" });
  const labels = { mesh: "yes" };
  const ambient = { "istio.io/dataplane-mode": "ambient" };
  const annotations = { "ambient.istio.io/redirection": "enabled" };
  const cases: readonly (readonly [string, Parameters<TestMesh["putPod"]>[0], boolean])[] = [
    ["fits", { name: "p", namespace: "web", labels }, true],
    ["namespace that is excluded by default only", { name: "p", namespace: "kube-system", labels }, true],
    ["the default's label", { name: "p", namespace: "shop", labels: ambient }, false],
    ["namespace that does not fit", { name: "p", namespace: "back", labels }, false],
    ["excluded namespace", { name: "p", namespace: "ci", labels }, false],
    ["namespace that is not known", { name: "p", namespace: "nowhere", labels }, false],
    ["a note that says not yet", { name: "p", namespace: "back", annotations: NOT_YET }, false],
    ["with a sidecar", { name: "p", namespace: "web", labels, annotations: { "sidecar.istio.io/status": "" } }, false],
    ["on the host's network", { name: "p", namespace: "web", labels, annotations, hostNetwork: true }, false],
  ];
  for (const [index, [what, pod, may]] of cases.entries()) {
    const serviceAccount = `account-${index}`;
    mesh.putPod({ ...pod, name: serviceAccount, account: serviceAccount });
    const asked = mesh.certificate(token, { ...CART, namespace: pod.namespace ?? "", serviceAccount });
    if (may) await asked;
    else assert.match((await refused(mesh, asked)).logged, /is in the mesh/, what);
  }
});

test("an ambient pod of an excluded namespace gets none unless it is still captured", async () => {
  await using mesh = await TestMesh.start();
  mesh.putNamespace("kube-system", { "istio.io/dataplane-mode": "ambient" });
  const token = await mesh.token(mesh.putZtunnel("n1"));
  const pod = { name: "dns", namespace: "kube-system", account: "dns" };
  const wanted = { ...CART, namespace: "kube-system", serviceAccount: "dns" };
  mesh.putPod(pod);
  const { logged } = await refused(mesh, mesh.certificate(token, wanted));
  assert.match(logged, /no pod of this account on node n1 is in the mesh \(dns\)/);
  mesh.putPod({ ...pod, annotations: { "ambient.istio.io/redirection": "enabled" } });
  await mesh.certificate(token, wanted);
});

test("a pod that the watch brings a moment later is waited for", async () => {
  await using mesh = await TestMesh.start();
  const token = await mesh.token(mesh.putZtunnel("n1"));
  const asked = mesh.certificate(token, CART);
  setTimeout(() => mesh.putPod({ name: "cart-1", account: "cart" }), 50);
  await asked;
});

interface Attack {
  readonly name: string;
  /** Who asks: default the ztunnel of n1. */
  readonly as?: (mesh: TestMesh) => Pod;
  readonly token?: TokenOptions;
  readonly clusterId?: string | undefined;
  readonly wanted?: Partial<typeof CART>;
  readonly before?: (mesh: TestMesh) => void;
  readonly told: RegExp;
  readonly logged: RegExp;
}

const UNAUTHENTICATED = /Unauthenticated.*request authenticate failure/;
const NOT_HIM = /Unauthenticated.*request impersonation authentication failure/;

const ATTACKS: readonly Attack[] = [
  {
    name: "a token for another audience",
    token: { audience: "kubernetes" },
    told: UNAUTHENTICATED,
    logged: /unexpected \\"aud\\"/,
  },
  {
    name: "a token that has expired",
    token: { expiresIn: -1, issuedAt: 1 },
    told: UNAUTHENTICATED,
    logged: /expired|exp/,
  },
  {
    name: "a token for more than an hour",
    token: { expiresIn: 7200 },
    told: UNAUTHENTICATED,
    logged: /more than an hour/,
  },
  {
    name: "a token that is bound to no pod",
    token: { claims: { "kubernetes.io": { namespace: "istio-system", serviceaccount: { name: "ztunnel" } } } },
    told: UNAUTHENTICATED,
    logged: /not bound to a pod/,
  },
  {
    name: "a token whose claims disagree",
    token: { claims: { sub: "system:serviceaccount:istio-system:other" } },
    told: UNAUTHENTICATED,
    logged: /different accounts/,
  },
  {
    name: "a token of another pod with the same account on another node",
    as: (mesh) => mesh.putZtunnel("n2"),
    told: NOT_HIM,
    logged: /there is no pod of this account on node n2/,
  },
  {
    name: "a token of a pod that was deleted",
    before: (mesh) => mesh.store.drop(POD, { namespace: "istio-system", name: "ztunnel-n1" }),
    told: NOT_HIM,
    logged: /the pod istio-system\/ztunnel-n1 of the token does not exist/,
  },
  {
    name: "a token of a pod that was replaced",
    as: (mesh) => {
      const old = mesh.putZtunnel("n1");
      mesh.store.put(POD, { ...old, metadata: { ...old.metadata, uid: "new" } });
      return old;
    },
    told: NOT_HIM,
    logged: /a former pod/,
  },
  {
    name: "a token that names another node than the pod has",
    token: { node: "n2" },
    told: NOT_HIM,
    logged: /the token is of node n2, the pod istio-system\/ztunnel-n1 on n1/,
  },
  {
    name: "an account that is no node proxy",
    as: (mesh) => mesh.putPod({ name: "evil", account: "evil" }),
    told: NOT_HIM,
    logged: /shop\/evil is not one of CA_TRUSTED_NODE_ACCOUNTS/,
  },
  {
    name: "an account of the right name in another namespace",
    as: (mesh) => mesh.putPod({ name: "ztunnel-n1", account: "ztunnel" }),
    told: NOT_HIM,
    logged: /shop\/ztunnel is not one of/,
  },
  {
    name: "a node proxy whose pod has ended",
    as: (mesh) => mesh.putPod({ name: "z", namespace: "istio-system", account: "ztunnel", phase: "Failed" }),
    told: NOT_HIM,
    logged: /has ended \(Failed\)/,
  },
  { name: "no clusterid", clusterId: undefined, told: NOT_HIM, logged: /the header clusterid is missing/ },
  { name: "another clusterid", clusterId: "other", told: UNAUTHENTICATED, logged: /names the cluster \\"other\\"/ },
  {
    name: "another trust domain",
    wanted: { trustDomain: "evil.example" },
    told: NOT_HIM,
    logged: /not of the trust domain cluster.local/,
  },
  {
    name: "an account without a pod on the node",
    wanted: { serviceAccount: "nobody" },
    told: NOT_HIM,
    logged: /there is no pod of this account on node n1/,
  },
  {
    name: "a pod that runs on another node",
    before: (mesh) => mesh.putPod({ name: "far", account: "far", node: "n2" }),
    wanted: { serviceAccount: "far" },
    told: NOT_HIM,
    logged: /there is no pod of this account on node n1/,
  },
  {
    name: "a pod that is not in the mesh",
    before: (mesh) => mesh.putPod({ name: "out", account: "out", labels: { "istio.io/dataplane-mode": "none" } }),
    wanted: { serviceAccount: "out" },
    told: NOT_HIM,
    logged: /no pod of this account on node n1 is in the mesh \(out\)/,
  },
  {
    name: "a pod that has ended",
    before: (mesh) => mesh.putPod({ name: "done", account: "done", phase: "Succeeded" }),
    wanted: { serviceAccount: "done" },
    told: NOT_HIM,
    logged: /every pod of this account on node n1 has ended/,
  },
];

test("certificates that nobody may have are refused: opaque to the caller, precise in the log", async (t) => {
  await using mesh = await TestMesh.start();
  for (const attack of ATTACKS) {
    await t.test(attack.name, async () => {
      mesh.putPod({ name: "cart-1", account: "cart" });
      const pod = attack.as?.(mesh) ?? mesh.putZtunnel("n1");
      const token = await mesh.token(pod, attack.token);
      attack.before?.(mesh);
      const options = "clusterId" in attack ? { clusterId: attack.clusterId } : {};
      const { told, logged } = await refused(mesh, mesh.certificate(token, { ...CART, ...attack.wanted }, options));
      assert.match(told, attack.told);
      assert.match(logged, attack.logged);
    });
  }
});

interface Told {
  readonly name: string;
  readonly as?: (mesh: TestMesh) => Pod;
  readonly token?: TokenOptions;
  readonly clusterId?: string | undefined;
  /** Undefined: there is no pod that it could be told on. */
  readonly about: string | undefined;
  readonly message?: RegExp;
}

const TOLD: readonly Told[] = [
  {
    name: "an account without a pod on the node",
    about: "istio-system/ztunnel-n1",
    message: /sa\/cart: there is no pod of this account on node n1/,
  },
  {
    name: "an account that is no node proxy",
    as: (mesh) => mesh.putPod({ name: "evil", account: "evil" }),
    about: "shop/evil",
    message: /shop\/evil is not one of CA_TRUSTED_NODE_ACCOUNTS/,
  },
  {
    name: "a node proxy whose pod has ended",
    as: (mesh) => mesh.putPod({ name: "z", namespace: "istio-system", account: "ztunnel", phase: "Failed" }),
    about: "istio-system/z",
    message: /has ended \(Failed\)/,
  },
  {
    name: "a token that names another node than the pod has",
    token: { node: "n2" },
    about: "istio-system/ztunnel-n1",
    message: /the token is of node n2/,
  },
  {
    name: "no clusterid",
    clusterId: undefined,
    about: "istio-system/ztunnel-n1",
    message: /the header clusterid is missing/,
  },
  {
    name: "another clusterid",
    clusterId: "other",
    about: "istio-system/ztunnel-n1",
    message: /the header clusterid names the cluster "other", this is Kubernetes/,
  },
  {
    name: "another clusterid, and a token that is none",
    token: { audience: "kubernetes" },
    clusterId: "other",
    about: undefined,
  },
  {
    name: "a token of a pod that was replaced",
    as: (mesh) => {
      const old = mesh.putZtunnel("n1");
      mesh.store.put(POD, { ...old, metadata: { ...old.metadata, uid: "new" } });
      return old;
    },
    about: undefined,
  },
];

test("who is refused finds an Event on its own pod that says why", async (t) => {
  await using mesh = await TestMesh.start();
  for (const one of TOLD) {
    await t.test(one.name, async () => {
      const token = await mesh.token(one.as?.(mesh) ?? mesh.putZtunnel("n1"), one.token);
      mesh.store.events.length = 0;
      const options = "clusterId" in one ? { clusterId: one.clusterId } : {};
      await refused(mesh, mesh.certificate(token, CART, options));
      const [event, ...others] = mesh.store.events;
      assert.equal(event?.about, one.about);
      assert.deepEqual(others, []);
      if (one.message === undefined) return;
      assert.equal(event?.reason, "CertificateRefused");
      assert.match(event?.message ?? "", one.message);
    });
  }
});

test("too long a time is refused, and an account that asks for itself gets itself, whatever its request says", async () => {
  await using mesh = await TestMesh.start({ env: { MAX_WORKLOAD_CERT_TTL: "48h" } });
  const token = await mesh.token(mesh.putZtunnel("n1"));
  mesh.putPod({ name: "cart-1", account: "cart" });
  const { told } = await refused(mesh, mesh.certificate(token, CART, { ttlSeconds: 3 * 86_400 }));
  assert.match(told, /InvalidArgument.*CSR signing error/);
  const own = await mesh.token(mesh.putPod({ name: "cart-1", account: "cart" }));
  // The CSR names someone else: the client finds that the certificate is not what it asked for.
  const other = { ...CART, serviceAccount: "ztunnel", namespace: "istio-system" };
  await assert.rejects(mesh.certificate(own, other, { impersonate: false }), /expected SAN|identity|spiffe/i);
  await mesh.certificate(own, CART, { impersonate: false });
});
