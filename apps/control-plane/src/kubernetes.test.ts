import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { LEAVING_ANNOTATION, LEFT_ANNOTATION, REDIRECTION_ANNOTATION, ROOT_CERT_CONFIG_MAP } from "@tulle/base";
import {
  AUTHORIZATION_POLICY,
  CONFIG_MAP,
  CUSTOM_RESOURCE_DEFINITION,
  EVENT,
  KubernetesStore,
  NAMESPACE,
  openStore,
  POD,
  type Pod,
  SECRET,
  SERVICE_ACCOUNT,
} from "@tulle/store";
import { type KubeApiServer, startKubeApiServer } from "@tulle/testkit";
import { TokenReviewAuthenticator } from "./auth/token-review.ts";
import { TestMesh, until } from "./testing/test-mesh.fixture.ts";

/** Against a real API server: tokens, Secrets, ConfigMaps, watches and annotations as they are on a cluster. */

let server: KubeApiServer;
let store: KubernetesStore;

before(async () => {
  server = await startKubeApiServer();
  store = await open();
  for (const name of ["istio-system", "shop"]) {
    const labels = { "istio.io/dataplane-mode": "ambient" };
    await store.create(NAMESPACE, { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
  }
  await store.create(CUSTOM_RESOURCE_DEFINITION, POLICY_CRD);
  await createPod("istio-system", "ztunnel-n1", "ztunnel", "10.9.0.1");
});

after(async () => {
  await store[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function open(): Promise<KubernetesStore> {
  const opened = await openStore({ component: "test", env: { KUBECONFIG: server.kubeconfig } });
  assert.ok(opened instanceof KubernetesStore);
  return opened;
}

async function createPod(namespace: string, name: string, account: string, ip: string): Promise<Pod> {
  const accounts = `/api/v1/namespaces/${namespace}/serviceaccounts`;
  const serviceAccount = { apiVersion: "v1", kind: "ServiceAccount", metadata: { namespace, name: account } };
  if ((await store.get(SERVICE_ACCOUNT, { namespace, name: account })) === undefined) {
    await store.api.request("POST", accounts, { body: serviceAccount });
  }
  const pod = await store.create<Pod>(POD, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { namespace, name },
    spec: {
      nodeName: "n1",
      serviceAccountName: account,
      containers: [{ name: "main", image: "none" }],
      terminationGracePeriodSeconds: 0,
    },
  });
  const status = { phase: "Running", podIP: ip, podIPs: [{ ip }], conditions: [{ type: "Ready", status: "True" }] };
  await store.patch(POD, { namespace, name }, { type: "merge", body: { status } }, { subresource: "status" });
  return pod;
}

async function tokenOf(pod: Pod, options: { audience?: string; bound?: boolean } = {}): Promise<string> {
  const { namespace, name, uid } = pod.metadata;
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${pod.spec?.serviceAccountName}/token`;
  const boundObjectRef = { apiVersion: "v1", kind: "Pod", name, uid };
  const answer = await store.api.request<{ status: { token: string } }>("POST", path, {
    body: {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: {
        audiences: [options.audience ?? "istio-ca"],
        expirationSeconds: 600,
        ...(options.bound === false ? {} : { boundObjectRef }),
      },
    },
  });
  return answer.status.token;
}

async function startMesh(): Promise<TestMesh> {
  const mesh = await TestMesh.create({ env: { TULLE_TOKEN_JWKS: "" } });
  await mesh.run(await open());
  await mesh.controlPlane.ready;
  return mesh;
}

const authenticator = () => new TokenReviewAuthenticator({ store, audiences: ["istio-ca"] });

test("a projected token shows account, pod and node", async () => {
  const pod = await createPod("shop", "who", "who", "10.1.9.1");
  const result = await authenticator().authenticate(await tokenOf(pod));
  assert.deepEqual(result, {
    ok: true,
    caller: { namespace: "shop", serviceAccount: "who", pod: { name: "who", uid: pod.metadata.uid }, node: "n1" },
  });
});

test("tokens for others, of nobody, of deleted pods, forged or garbled are refused", async () => {
  const pod = await createPod("shop", "gone", "gone", "10.1.9.2");
  const good = await tokenOf(pod);
  const reasonOf = async (token: string) => {
    const result = await authenticator().authenticate(token);
    assert.ok(!result.ok, "the token was accepted");
    return result.reason;
  };
  assert.match(await reasonOf(await tokenOf(pod, { audience: "vault" })), /does not accept the token.*audience/);
  assert.match(await reasonOf("abc"), /not a JSON Web Token/);
  const [head = "", payload = "", signature = ""] = good.split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as Record<string, unknown>;
  const forged = Buffer.from(JSON.stringify({ ...claims, sub: "system:serviceaccount:istio-system:ztunnel" }));
  assert.match(await reasonOf(`${head}.${forged.toString("base64url")}.${signature}`), /does not accept the token/);
  assert.match(await reasonOf(server.token), /not a JSON Web Token/);
  await store.delete(POD, { namespace: "shop", name: "gone" });
  assert.match(await reasonOf(good), /does not accept the token/);
  const unbound = await authenticator().authenticate(await tokenOf(pod, { bound: false }));
  assert.ok(unbound.ok && unbound.caller.pod === undefined);
});

test("one review answers many calls, and an answer is remembered", async () => {
  const pod = await createPod("shop", "busy", "busy", "10.1.9.3");
  let reviews = 0;
  const counting = new Proxy(store, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name, target);
      if (name === "create") reviews++;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const one = new TokenReviewAuthenticator({ store: counting, audiences: ["istio-ca"] });
  const token = await tokenOf(pod);
  const results = await Promise.all(Array.from({ length: 20 }, () => one.authenticate(token)));
  assert.ok(results.every(({ ok }) => ok));
  assert.equal(reviews, 1);
  await one.authenticate(token);
  assert.equal(reviews, 1);
});

test("an API server that does not answer is no proof, and nothing is remembered of it", async () => {
  const pod = await createPod("shop", "later", "later", "10.1.9.4");
  const token = await tokenOf(pod);
  let down = true;
  const flaky = {
    create: (...args: Parameters<KubernetesStore["create"]>) =>
      down ? Promise.reject(new Error("no connection")) : store.create(...args),
  } as KubernetesStore;
  const one = new TokenReviewAuthenticator({ store: flaky, audiences: ["istio-ca"] });
  const refused = await one.authenticate(token);
  assert.ok(!refused.ok && /cannot review the token: no connection/.test(refused.reason));
  down = false;
  assert.ok((await one.authenticate(token)).ok);
});

test("two control planes that start at once share one root, which stands in every namespace", async () => {
  const [first, second] = await Promise.all([startMesh(), startMesh()]);
  await using _first = first;
  await using _second = second;
  const roots = first.controlPlane.roots();
  assert.equal(roots, second.controlPlane.roots());
  const secret = await store.get(SECRET, { namespace: "istio-system", name: "istio-ca-secret" });
  assert.equal(secret?.type, "istio.io/ca-root");
  const ref = { namespace: "shop", name: ROOT_CERT_CONFIG_MAP };
  const read = async (namespace = "shop") => {
    return (await store.get(CONFIG_MAP, { ...ref, namespace }))?.data?.["root-cert.pem"];
  };
  for (const namespace of ["shop", "istio-system", "kube-system", "default"]) {
    await eventually(async () => (await read(namespace)) === roots, `the roots in ${namespace}`);
  }
  assert.equal(await read("kube-public"), undefined);
  await store.patch(CONFIG_MAP, ref, { type: "merge", body: { data: { "root-cert.pem": "edited" } } });
  await eventually(async () => (await read()) === roots, "the edited roots come back");
  await store.delete(CONFIG_MAP, ref);
  await eventually(async () => (await read()) === roots, "the deleted roots come back");
  await store.create(NAMESPACE, { apiVersion: "v1", kind: "Namespace", metadata: { name: "fresh" } });
  await eventually(async () => (await read("fresh")) === roots, "the roots in a new namespace");
});

test("a policy reaches a node proxy as soon as the API server has taken it", async () => {
  await using mesh = await startMesh();
  const ztunnel = await store.get(POD, { namespace: "istio-system", name: "ztunnel-n1" });
  assert.ok(ztunnel);
  const proxy = await mesh.ztunnel(ztunnel, { token: await tokenOf(ztunnel) });
  await until(() => proxy.client.ready, "the proxy is ready");
  const took: number[] = [];
  for (let round = 0; round < 9; round++) {
    const name = `deny-${round}`;
    await store.create(AUTHORIZATION_POLICY, {
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { namespace: "shop", name },
      spec: { action: "DENY", rules: [{ from: [{ source: { namespaces: ["x"] } }] }] },
    });
    const created = performance.now();
    await until(() => proxy.policies.has(`shop/${name}`), `the policy ${name}`);
    took.push(performance.now() - created);
  }
  took.sort((a, b) => a - b);
  // A busy machine may be late with most, not with all.
  assert.ok((took[0] ?? Number.POSITIVE_INFINITY) < 50, `quickest ${took[0]} ms`);
  assert.ok((took[4] ?? Number.POSITIVE_INFINITY) < 1000, `median ${took[4]} ms`);
  // Certificates with the same token, and an Event for what is refused.
  const cart = { trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart" };
  await createPod("shop", "cart-1", "cart", "10.1.9.5");
  const token = await tokenOf(ztunnel);
  await mesh.certificate(token, cart);
  await assert.rejects(mesh.certificate(token, { ...cart, serviceAccount: "nobody" }), /Unauthenticated/);
  await eventually(async () => {
    const events = await store.list(EVENT, { namespace: "istio-system" });
    return events.some(({ reason, involvedObject }) => {
      return reason === "CertificateRefused" && involvedObject.name === "ztunnel-n1";
    });
  }, "the Event");
  await leave(mesh, proxy.addresses);
});

async function leave(mesh: TestMesh, addresses: ReadonlyMap<string, string>): Promise<void> {
  const ref = { namespace: "shop", name: "cart-1" };
  const annotate = (annotations: Readonly<Record<string, string | null>>) =>
    store.patch(POD, ref, { type: "merge", body: { metadata: { annotations } } }, { subresource: "status" });
  const uid = "Kubernetes//Pod/shop/cart-1";
  await annotate({ [REDIRECTION_ANNOTATION]: "enabled" });
  await until(() => addresses.get(uid) === "HBONE", "the pod is captured");
  const begin = performance.now();
  await annotate({ [REDIRECTION_ANNOTATION]: null, [LEAVING_ANNOTATION]: "7" });
  await eventually(
    async () => {
      return (await store.get(POD, ref))?.metadata.annotations?.[LEFT_ANNOTATION] === "7";
    },
    `the pod has left: ${mesh.log.slice(-3).join("\n")}`,
  );
  // A node proxy that is missed would have been waited for five seconds.
  assert.ok(performance.now() - begin < 4500);
}

async function eventually(condition: () => Promise<boolean>, what: string): Promise<void> {
  const end = performance.now() + 10_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`timeout: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const POLICY_CRD = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "authorizationpolicies.security.istio.io" },
  spec: {
    group: "security.istio.io",
    scope: "Namespaced",
    names: {
      kind: "AuthorizationPolicy",
      listKind: "AuthorizationPolicyList",
      plural: "authorizationpolicies",
      singular: "authorizationpolicy",
    },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
      },
    ],
  },
};
