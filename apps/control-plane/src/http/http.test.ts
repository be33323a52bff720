import assert from "node:assert/strict";
import { get } from "node:http";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { AUTHORIZATION_POLICY } from "@tulle/store";
import { readProfile } from "@tulle/testkit";
import { TestMesh, until } from "../testing/test-mesh.fixture.ts";

async function json(mesh: TestMesh, path: string): Promise<unknown> {
  const answer = await fetch(`http://127.0.0.1:${mesh.controlPlane.ports.monitoring}${path}`);
  assert.equal(answer.status, 200, await answer.clone().text());
  return answer.json();
}

test("the pages that tools read show proxies, the mesh and its configuration", async () => {
  await using mesh = await TestMesh.start();
  mesh.putPod({ name: "cart", annotations: { "ambient.istio.io/redirection": "enabled" } });
  mesh.store.put(AUTHORIZATION_POLICY, {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { namespace: "shop", name: "closed" },
    spec: {},
  });
  const proxy = await mesh.ztunnel(mesh.putZtunnel("n1"));
  await until(() => proxy.client.ready && proxy.policies.has("shop/closed"));
  const stale = async () => JSON.stringify(await json(mesh, "/debug/syncz")).includes("STALE");
  while (await stale());
  assert.deepEqual(await json(mesh, "/debug/syncz"), [
    {
      cluster_id: "Kubernetes",
      proxy: "ztunnel-n1.istio-system",
      proxy_type: "ztunnel",
      istio_version: "",
      types: [
        { typeUrl: "type.googleapis.com/istio.workload.Address", status: "SYNCED" },
        { typeUrl: "type.googleapis.com/istio.security.Authorization", status: "SYNCED" },
      ],
    },
  ]);
  const { workloads, policies } = (await json(mesh, "/debug/ambientz")) as {
    workloads: { uid: string; protocol: string }[];
    policies: { name: string }[];
  };
  assert.equal(workloads.find(({ uid }) => uid.endsWith("/cart"))?.protocol, "HBONE");
  assert.deepEqual(
    policies.map(({ name }) => name),
    ["closed"],
  );
  const dump = (await json(mesh, "/debug/config_dump?proxyID=ztunnel-n1.istio-system")) as { workloads: unknown[] };
  assert.equal(dump.workloads.length, workloads.length);
  const [object] = (await json(mesh, "/debug/configz")) as { metadata: { name: string } }[];
  assert.equal(object?.metadata.name, "closed");
  const settings = (await json(mesh, "/debug/mesh")) as { trustDomain: string };
  assert.equal(settings.trustDomain, "cluster.local");
  const { clients } = (await json(mesh, "/debug/adsz")) as { clients: { metadata: { NODE_NAME: string } }[] };
  assert.deepEqual(
    clients.map(({ metadata }) => metadata.NODE_NAME),
    ["n1"],
  );
  for (const path of ["registryz", "authorizationz", "connections", "clusterz", "list"]) {
    await json(mesh, `/debug/${path}`);
  }
  const { monitoring } = mesh.controlPlane.ports;
  assert.equal((await fetch(`http://127.0.0.1:${monitoring}/debug/none`)).status, 404);
  assert.equal((await fetch(`http://127.0.0.1:${monitoring}/debug/config_dump?proxyID=x.y`)).status, 404);
  // istioctl asks for it with two slashes.
  for (const path of ["/version", "//version"]) {
    const version = await fetch(`http://127.0.0.1:${monitoring}${path}`);
    assert.match(await version.text(), /^\d+\.\d+/, path);
  }
});

test("pprof can read where the control plane spends its time", async () => {
  await using mesh = await TestMesh.start();
  const answer = await fetch(
    `http://127.0.0.1:${mesh.controlPlane.ports.monitoring}/debug/pprof/profile?seconds=1&frequency=1000`,
  );
  assert.equal(answer.status, 200);
  const { sampleTypes } = readProfile(gunzipSync(Buffer.from(await answer.arrayBuffer())));
  assert.deepEqual(sampleTypes, ["samples/count", "cpu/nanoseconds"]);
});

test("a web page that has its own name lead to a port-forward is not answered", async () => {
  await using mesh = await TestMesh.start();
  const ask = (host: string) => {
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
    const { monitoring: port } = mesh.controlPlane.ports;
    get({ host: "127.0.0.1", port, path: "/debug/configz", headers: { host }, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on("error", reject);
    return promise;
  };
  assert.deepEqual([await ask("localhost:15014"), await ask("evil.example:15014")], [200, 401]);
});

test("metrics count streams, pushes, certificates and what the mesh has", async () => {
  await using mesh = await TestMesh.start();
  const ztunnel = mesh.putZtunnel("n1");
  const proxy = await mesh.ztunnel(ztunnel);
  await until(() => proxy.client.ready);
  mesh.putPod({ name: "cart-1", account: "cart" });
  await mesh.certificate(await mesh.token(ztunnel), {
    trustDomain: "cluster.local",
    namespace: "shop",
    serviceAccount: "cart",
  });
  await assert.rejects(
    mesh.certificate("a.b.c", { trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart" }),
  );
  const answer = await fetch(`http://127.0.0.1:${mesh.controlPlane.ports.monitoring}/metrics`);
  const text = await answer.text();
  for (const pattern of [
    /^pilot_xds\{version="[^"]+"\} 1$/m,
    /^pilot_xds_pushes\{type="wds"\} [1-9]/m,
    /^pilot_xds_pushes\{type="wads"\} 1$/m,
    /^pilot_proxy_convergence_time_count [1-9]/m,
    /^pilot_proxy_convergence_time_bucket\{le="\+Inf"\} [1-9]/m,
    /^pilot_proxy_queue_time_count [1-9]/m,
    /^pilot_xds_push_time_count\{type="wds"\} [1-9]/m,
    /^pilot_push_triggers\{type="pod"\} [1-9]/m,
    /^pilot_services 0$/m,
    /^pilot_info\{version="[^"]+"\} 1$/m,
    /^citadel_server_csr_count 2$/m,
    /^citadel_server_success_cert_issuance_count 1$/m,
    /^citadel_server_authentication_failure_count 1$/m,
    /^citadel_server_root_cert_expiry_seconds [1-9]\d{7}/m,
    /^tulle_mesh_workloads 3$/m,
    /^tulle_connected_ztunnels 1$/m,
  ]) {
    assert.match(text, pattern);
  }
  const names = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
  assert.equal(new Set(names).size, names.length, "a family stands there once");
});
