import assert from "node:assert/strict";
import { test } from "node:test";
import { assertGolden } from "../../../test/golden.ts";
import { tulle } from "../../../test/run-cli.ts";
import { readCrds } from "./crds.ts";

async function generate(...args: string[]): Promise<string> {
  const { out, error, exitCode } = await tulle(["manifest", "generate", "--no-crds", ...args]);
  assert.equal(exitCode, 0, error);
  return out;
}

test("manifest generate prints the objects of an installation", async () => {
  assertGolden("manifests/default.yaml", await generate());
});

test("every value finds its place", async () => {
  const sets = [
    "hub=registry.example/mesh",
    "tag=1.2.3",
    "global.imagePullPolicy=IfNotPresent",
    "global.imagePullSecrets={pull}",
    "global.logAsJson=true",
    "global.logging.level=debug",
    "global.multiCluster.clusterName=east",
    "global.network=net1",
    "global.platform=k3s",
    "global.priorityClassName=high",
    "global.proxy.clusterDomain=corp.local",
    "meshConfig.trustDomain=corp.example",
    "pilot.env.DEFAULT_WORKLOAD_CERT_TTL=1h",
    "pilot.nodeSelector.pool=control",
    "pilot.podAnnotations.owner=me",
    "pilot.podLabels.team=mesh",
    "pilot.resources.limits.memory=1Gi",
    'pilot.tolerations=[{"key":"control","operator":"Exists"}]',
    "pilot.trustedZtunnelNamespace=proxies",
    "pilot.trustedZtunnelName=zt",
    "cni.ambient.dnsCapture=false",
    "cni.ambient.ipv6=false",
    'cni.ambient.enablementSelectors=[{"podSelector":{"matchLabels":{"mesh":"yes"}}}]',
    "cni.cniConfFileName=10-first.conflist",
    "cni.cniNetnsDir=/run/netns",
    "cni.env.A_B=c",
    "cni.excludeNamespaces={kube-system,ci}",
    "cni.logging.level=warn",
    "cni.resources.requests.cpu=50m",
    "cni.terminationGracePeriodSeconds=60",
    "ztunnel.env.SECRET_TTL=1h",
    "ztunnel.logLevel=access=debug",
    "ztunnel.nodeSelector.pool=work",
    "ztunnel.podAnnotations.owner=me",
    "ztunnel.podLabels.team=mesh",
    "ztunnel.resources.limits.cpu=2",
    "ztunnel.terminationGracePeriodSeconds=90",
  ];
  assertGolden("manifests/custom.yaml", await generate("-i", "mesh", ...sets.flatMap((set) => ["--set", set])));
});

test("control plane and node agent are told alike which pods are in the mesh", async () => {
  const lists = [["cni.excludeNamespaces={ci,kube-system}"], ["cni.env.EXCLUDE_NAMESPACES=ci,kube-system"]];
  for (const sets of lists) {
    const text = await generate(...sets.flatMap((set) => ["--set", set]));
    const told = [...text.matchAll(/name: EXCLUDE_NAMESPACES\n\s+value: (.*)/g)].map(([, value]) => value);
    assert.deepEqual(told, ["ci,kube-system", "ci,kube-system"]);
  }
});

test("the same values give the same bytes", async () => {
  assert.equal(await generate(), await generate());
});

test("the schemas are those of Gateway API's standard channel and of Istio", () => {
  const names = readCrds().map(({ metadata }) => metadata.name);
  assert.deepEqual(names, names.toSorted());
  for (const name of [
    "authorizationpolicies.security.istio.io",
    "gateways.gateway.networking.k8s.io",
    "gateways.networking.istio.io",
    "serviceentries.networking.istio.io",
    "workloadentries.networking.istio.io",
  ]) {
    assert.ok(names.includes(name), name);
  }
  assert.equal(names.length, 25);
});

test("a namespace that cannot be one is refused", async () => {
  const { error, exitCode } = await tulle(["manifest", "generate", "-i", "Not/One"]);
  assert.equal(exitCode, 1);
  assert.match(error, /"Not\/One" cannot be the name of a namespace/);
});
