import assert from "node:assert/strict";
import { test } from "node:test";
import { type ConnectError, createClient } from "@connectrpc/connect";
import { ADDRESS_TYPE, ads } from "@tulle/api";
import { POD, type Pod } from "@tulle/store";
import { TestMesh, type TokenOptions } from "../testing/test-mesh.fixture.ts";

interface Claim {
  readonly id?: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

const DOMAIN = "istio-system.svc.cluster.local";
const ZTUNNEL: Claim = {
  id: `ztunnel~10.0.0.1~ztunnel-n1.istio-system~${DOMAIN}`,
  metadata: { NAMESPACE: "istio-system", INSTANCE_IPS: "10.0.0.1", NODE_NAME: "n1" },
};
const CART: Claim = {
  id: "sidecar~10.0.0.1~cart-1.shop~shop.svc.cluster.local",
  metadata: { NAMESPACE: "shop" },
};

/** Opens a stream, asks once, and tells what came: names of resources, or the error. */
async function ask(
  mesh: TestMesh,
  token: string | undefined,
  claim: Claim,
  subscribe: { readonly names?: string[]; readonly not?: string[] } = {},
): Promise<string[] | ConnectError> {
  const channel = await mesh.channel(token);
  const client = createClient(ads.AggregatedDiscoveryService, channel.transport);
  const ended = Promise.withResolvers<void>();
  async function* requests() {
    yield {
      node: { id: claim.id ?? "", metadata: { ...claim.metadata } },
      typeUrl: ADDRESS_TYPE,
      resourceNamesSubscribe: subscribe.names ?? [],
      resourceNamesUnsubscribe: subscribe.not ?? [],
    };
    await ended.promise;
  }
  try {
    for await (const { resources } of client.deltaAggregatedResources(requests(), { timeoutMs: 5000 })) {
      return resources.map((one) => one.name);
    }
    throw new Error("the stream ended without an answer");
  } catch (error) {
    return error as ConnectError;
  } finally {
    ended.resolve();
    channel.close();
  }
}

interface Attack {
  readonly name: string;
  readonly as?: (mesh: TestMesh) => Pod;
  readonly token?: TokenOptions | "none" | "garbage";
  readonly claim: Claim;
  readonly names?: string[];
  readonly not?: string[];
  readonly before?: (mesh: TestMesh) => void;
  readonly code: RegExp;
  readonly logged: RegExp;
}

const cart = (mesh: TestMesh) => mesh.putPod({ name: "cart-1", account: "cart" });
const DENIED = /permission_denied/;
const STRANGER = /unauthenticated/;

const ATTACKS: readonly Attack[] = [
  { name: "no token", token: "none", claim: ZTUNNEL, code: STRANGER, logged: /there is no bearer token/ },
  { name: "no JWT", token: "garbage", claim: ZTUNNEL, code: STRANGER, logged: /the token is not good/ },
  { name: "another audience", token: { audience: "vault" }, claim: ZTUNNEL, code: STRANGER, logged: /aud/ },
  { name: "an expired token", token: { expiresIn: -5, issuedAt: 1 }, claim: ZTUNNEL, code: STRANGER, logged: /exp/ },
  {
    name: "an application that says it is a ztunnel",
    as: cart,
    claim: { id: "ztunnel~10.0.0.1~cart-1.shop~shop.svc.cluster.local", metadata: { NODE_NAME: "n1" } },
    code: DENIED,
    logged: /shop\/cart is not one of CA_TRUSTED_NODE_ACCOUNTS/,
  },
  {
    name: "an application that says it is the ztunnel",
    as: cart,
    claim: ZTUNNEL,
    code: DENIED,
    logged: /the token is of namespace shop, the node says \\"istio-system\\"/,
  },
  {
    name: "another account of the same namespace",
    claim: { ...ZTUNNEL, metadata: { ...ZTUNNEL.metadata, SERVICE_ACCOUNT: "istiod" } },
    code: DENIED,
    logged: /the token is of account ztunnel, SERVICE_ACCOUNT says \\"istiod\\"/,
  },
  {
    name: "another pod of the same account",
    as: (mesh) => mesh.putZtunnel("n2"),
    claim: ZTUNNEL,
    code: DENIED,
    logged: /the token is of pod ztunnel-n2/,
  },
  {
    name: "another node than the pod's",
    claim: { ...ZTUNNEL, metadata: { ...ZTUNNEL.metadata, NODE_NAME: "n2" } },
    code: DENIED,
    logged: /runs on node n1, but NODE_NAME says \\"n2\\"/,
  },
  {
    name: "no node at all",
    claim: { ...ZTUNNEL, metadata: { NAMESPACE: "istio-system" } },
    code: DENIED,
    logged: /NODE_NAME says \\"\\"/,
  },
  {
    name: "a pod that was deleted",
    claim: ZTUNNEL,
    before: (mesh) => mesh.store.drop(POD, { namespace: "istio-system", name: "ztunnel-n1" }),
    code: DENIED,
    logged: /does not exist/,
  },
  { name: "everything, by an application", as: cart, claim: CART, code: DENIED, logged: /discovery stream failed/ },
  {
    name: "everything by its star, by an application",
    as: cart,
    claim: CART,
    names: ["shop/x", "*"],
    code: DENIED,
    logged: /not everything of it/,
  },
  { name: "no node id", claim: {}, code: /invalid_argument/, logged: /^$/ },
  {
    name: "three parts",
    claim: { id: "ztunnel~1.2.3.4~a.b" },
    code: DENIED,
    logged: /not type~ip~pod.namespace~domain/,
  },
  { name: "an unknown type", claim: { ...ZTUNNEL, id: `proxy~1.1.1.1~a.b~${DOMAIN}` }, code: DENIED, logged: /type/ },
  {
    name: "no address",
    claim: { id: `ztunnel~x~ztunnel-n1.istio-system~${DOMAIN}`, metadata: {} },
    code: DENIED,
    logged: /no IP address/,
  },
];

test("streams that nobody may open are refused, with the reason in the log only", async (t) => {
  await using mesh = await TestMesh.start();
  for (const attack of ATTACKS) {
    await t.test(attack.name, async () => {
      const pod = attack.as?.(mesh) ?? mesh.putZtunnel("n1");
      const { token: wanted } = attack;
      const token =
        wanted === "none"
          ? undefined
          : wanted === "garbage"
            ? "a.b.c"
            : await mesh.token(pod, wanted === undefined ? {} : wanted);
      attack.before?.(mesh);
      const before = mesh.log.length;
      const { names = [], not = [] } = attack;
      const answer = await ask(mesh, token, attack.claim, { names, not });
      assert.ok(answer instanceof Error, `it was answered: ${String(answer)}`);
      assert.match(answer.message, attack.code);
      assert.match(mesh.log.slice(before).join("\n"), attack.logged);
    });
  }
});

test("an application may ask for what it names, and a node proxy for everything", async () => {
  await using mesh = await TestMesh.start();
  const pod = cart(mesh);
  const name = "Kubernetes//Pod/shop/cart-1";
  mesh.putPod({ name: "other", ip: "10.1.0.2" });
  const token = await mesh.token(pod);
  await ask(mesh, token, CART, { names: [name] });
  assert.deepEqual(await ask(mesh, token, CART, { names: ["/10.1.0.1"] }), [name]);
  const all = await ask(mesh, await mesh.token(mesh.putZtunnel("n1")), ZTUNNEL);
  assert.ok(Array.isArray(all) && all.length === 4, String(all));
});

test("a proxy on demand is given the workloads of its own node unasked", async () => {
  await using mesh = await TestMesh.start();
  cart(mesh);
  mesh.putPod({ name: "far", node: "n2", ip: "10.1.0.2" });
  const token = await mesh.token(mesh.putZtunnel("n1"));
  const answer = await ask(mesh, token, ZTUNNEL, { names: ["*"], not: ["*"] });
  assert.deepEqual([...(answer as string[])].sort(), [
    "Kubernetes//Pod/istio-system/ztunnel-n1",
    "Kubernetes//Pod/shop/cart-1",
  ]);
});

test("an application is given no node's workloads, neither unasked nor by the key that stands for them", async () => {
  await using mesh = await TestMesh.start();
  const pod = cart(mesh);
  mesh.putPod({ name: "far", node: "n2", ip: "10.1.0.2" });
  const token = await mesh.token(pod);
  const [own, far] = ["Kubernetes//Pod/shop/cart-1", "Kubernetes//Pod/shop/far"];
  let known: unknown;
  for (let tries = 0; String(known) !== far && tries < 100; tries++) {
    known = await ask(mesh, token, CART, { names: [far] });
  }
  for (const node of ["n1", "n2"]) {
    const claim = { ...CART, metadata: { ...CART.metadata, NODE_NAME: node } };
    assert.deepEqual(await ask(mesh, token, claim, { names: [own] }), [own], `it says that it is on ${node}`);
    assert.deepEqual(await ask(mesh, token, claim, { names: [own, `node:${node}`] }), [own], "and asks for it");
    assert.deepEqual(await ask(mesh, token, claim, { names: [`node:${node}`] }), []);
  }
});
