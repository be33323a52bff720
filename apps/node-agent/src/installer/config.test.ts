import assert from "node:assert/strict";
import { test } from "node:test";
import { readInstallerConfig } from "./config.ts";

const POD = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443", POD_NAMESPACE: "istio-system" };
const noFiles = () => "";

test("what a pod needs not say", () => {
  const config = readInstallerConfig(POD, noFiles);
  assert.equal(config.binDir, "/host/opt/cni/bin");
  assert.equal(config.hostBinDir, "/opt/cni/bin");
  assert.equal(config.confDir, "/host/etc/cni/net.d");
  assert.equal(config.runDir, "/var/run/istio-cni");
  assert.equal(config.kubeconfigMode, 0o600);
  assert.equal(config.apiServer, "https://10.96.0.1:443");
  assert.deepEqual(config.excludedNamespaces, ["kube-system"]);
});

test("the plugin selects by the labels that the agent selects by", () => {
  const text = "- podSelector: {matchLabels: {mesh: 'yes'}}";
  const { enablement } = readInstallerConfig({ ...POD, AMBIENT_ENABLEMENT_SELECTOR: text }, noFiles);
  assert.deepEqual(
    enablement.map(({ podSelector }) => podSelector.matchLabels),
    [{ mesh: "yes" }],
  );
});

test("lists and addresses", () => {
  const config = readInstallerConfig(
    {
      ...POD,
      KUBERNETES_SERVICE_HOST: "fd00::1",
      EXCLUDE_NAMESPACES: "kube-system, storage",
      HOST_CNI_BIN_DIR: "/usr/lib/cni",
    },
    noFiles,
  );
  assert.equal(config.apiServer, "https://[fd00::1]:443");
  assert.deepEqual(config.excludedNamespaces, ["kube-system", "storage"]);
  assert.equal(config.hostBinDir, "/usr/lib/cni");
});

for (const [variable, value] of [
  ["KUBECONFIG_MODE", "rw"],
  ["HOST_CNI_BIN_DIR", "opt/cni/bin"],
  ["POD_NAMESPACE", ""],
  ["KUBERNETES_SERVICE_HOST", ""],
] as const) {
  test(`${variable}="${value}" is refused by name`, () => {
    assert.throws(() => readInstallerConfig({ ...POD, [variable]: value }, noFiles), new RegExp(variable));
  });
}
