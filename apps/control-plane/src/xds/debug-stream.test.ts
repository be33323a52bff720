import assert from "node:assert/strict";
import { test } from "node:test";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { toJson } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import { ADDRESS_TYPE, ads, AUTHORIZATION_TYPE, csds } from "@tulle/api";
import type { Pod } from "@tulle/store";
import { TestMesh, until } from "../testing/test-mesh.fixture.ts";

const TOOL: Pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { namespace: "istio-system", name: "istioctl-1", uid: "tool" },
  spec: { serviceAccountName: "default" },
};
const SYNCZ = "istio.io/debug/syncz";
const PAGES = "istio.io/debug";

/**
 * One question, as istioctl asks it: it says that it is in the namespace default, and sends a nonce that nobody gave it. The
 * first answer, or the error. An acknowledgement must not be answered again.
 */
async function ask(mesh: TestMesh, token: string, typeUrl = SYNCZ, resourceNames: string[] = []) {
  const channel = await mesh.channel(token);
  const client = createClient(ads.AggregatedDiscoveryService, channel.transport);
  const answered = Promise.withResolvers<ads.DiscoveryResponse>();
  async function* requests() {
    const metadata = { GENERATOR: "event", NAMESPACE: "istio-system", SERVICE_ACCOUNT: "default" };
    const node = { id: "sidecar~1.1.1.1~istioctl-1.default~default.svc.cluster.local", metadata };
    yield { node, typeUrl, resourceNames, responseNonce: "2026-11-21 22:06:34 +0000 UTC" };
    const { nonce, versionInfo } = await answered.promise;
    yield { typeUrl, resourceNames, responseNonce: nonce, versionInfo };
  }
  const answers: ads.DiscoveryResponse[] = [];
  try {
    for await (const answer of client.streamAggregatedResources(requests(), { timeoutMs: 5000 })) {
      answers.push(answer);
      answered.resolve(answer);
    }
    const [answer, ...others] = answers;
    assert.ok(answer !== undefined, "the stream ended without an answer");
    assert.equal(others.length, 0);
    return answer;
  } finally {
    channel.close();
  }
}

function proxiesIn({ resources }: ads.DiscoveryResponse): string[] {
  return resources.map((one) => anyUnpack(one, csds.ClientConfigSchema)?.node?.id ?? "").sort();
}

test("istioctl proxy-status sees every node proxy and how far it is", async () => {
  await using mesh = await TestMesh.start();
  const proxies = await Promise.all(["n1", "n2"].map((node) => mesh.ztunnel(mesh.putZtunnel(node))));
  await until(() => proxies.every(({ client }) => client.ready));
  const answer = await ask(mesh, await mesh.token(TOOL));
  assert.deepEqual(proxiesIn(answer), ["ztunnel-n1.istio-system", "ztunnel-n2.istio-system"]);
  const [resource] = answer.resources;
  assert.equal(resource?.typeUrl, "type.googleapis.com/envoy.service.status.v3.ClientConfig");
  const config = resource && anyUnpack(resource, csds.ClientConfigSchema);
  assert.ok(config);
  const shown = toJson(csds.ClientConfigSchema, config) as {
    node: { metadata: object };
    genericXdsConfigs: { typeUrl: string; configStatus: string; lastUpdated: string }[];
  };
  assert.deepEqual(shown.node.metadata, { CLUSTER_ID: "Kubernetes", NAMESPACE: "istio-system" });
  const types = shown.genericXdsConfigs.map(({ typeUrl }) => typeUrl);
  assert.deepEqual(new Set(types), new Set([ADDRESS_TYPE, AUTHORIZATION_TYPE]));
  const identifier = JSON.parse(answer.controlPlane?.identifier ?? "") as { Component: string; ID: string };
  assert.equal(identifier.Component, "istiod");
  assert.equal(answer.typeUrl, "istio.io/debug/syncz");
});

test("callers of other namespaces see their own proxies, strangers nothing, and other types are not served", async () => {
  await using mesh = await TestMesh.start();
  const proxy = await mesh.ztunnel(mesh.putZtunnel("n1"));
  await until(() => proxy.client.ready);
  const cart = await mesh.token(mesh.putPod({ name: "istioctl-1", account: "cart" }));
  assert.deepEqual(proxiesIn(await ask(mesh, cart)), []);
  await refusal(ask(mesh, "a.b.c"), /unauthenticated/);
  const tool = await mesh.token(TOOL);
  await refusal(ask(mesh, tool, "type.googleapis.com/envoy.config.cluster.v3.Cluster"), /unimplemented/);
});

test("istioctl internal-debug reads the debug pages, each for whom it may be", async () => {
  await using mesh = await TestMesh.start();
  const proxy = await mesh.ztunnel(mesh.putZtunnel("n1"));
  await until(() => proxy.client.ready);
  const tool = await mesh.token(TOOL);
  const page = async (token: string, name: string) => {
    const { resources } = await ask(mesh, token, PAGES, [name]);
    assert.equal(resources[0]?.typeUrl, PAGES);
    return Buffer.from(resources[0]?.value ?? []).toString();
  };
  const [shown] = JSON.parse(await page(tool, "syncz")) as { proxy: string }[];
  assert.equal(shown?.proxy, "ztunnel-n1.istio-system");
  const dump = JSON.parse(await page(tool, "config_dump?proxyID=ztunnel-n1.istio-system")) as { workloads: unknown };
  assert.ok(Array.isArray(dump.workloads));
  // By these words istioctl knows what to say.
  assert.match(await page(tool, "config_dump"), /You must provide a proxyID in the query string/);
  assert.match(await page(tool, "nothing"), /404 page not found/);
  await refusal(ask(mesh, tool, PAGES, []), /invalid_argument/);
  await refusal(ask(mesh, tool, PAGES, ["syncz", "mesh"]), /invalid_argument/);

  const cart = await mesh.token(mesh.putPod({ name: "cart-1", account: "cart" }));
  assert.match(await page(cart, "syncz"), /may not see/);
  assert.match(await page(cart, "config_dump?proxyID=ztunnel-n1.istio-system"), /^no proxy "ztunnel-n1/);
});

async function refusal(request: Promise<unknown>, code: RegExp): Promise<void> {
  await assert.rejects(request, (error) => code.test(ConnectError.from(error).message));
}
