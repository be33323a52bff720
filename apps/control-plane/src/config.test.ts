import assert from "node:assert/strict";
import { test } from "node:test";
import { readConfig } from "./config.ts";

test("with nothing set the control plane is istiod of istio-system", () => {
  const config = readConfig({});
  assert.equal(config.namespace, "istio-system");
  assert.equal(config.clusterId, "Kubernetes");
  assert.deepEqual(config.listen, { host: "::", secureGrpcPort: 15012, httpPort: 8080, monitoringPort: 15014 });
  assert.equal(readConfig({}, { ipv6: false }).listen.host, "0.0.0.0");
  assert.deepEqual(config.auth.audiences, ["istio-ca"]);
  assert.equal(config.auth.trustedNodeAccounts.size, 0, "nobody may impersonate");
  assert.deepEqual([...config.enrolment.excludeNamespaces], ["kube-system"]);
  assert.equal(config.ca.defaultTtlMs, 24 * 3_600_000);
  assert.equal(config.ca.maxTtlMs, 90 * 24 * 3_600_000);
  assert.equal(config.ca.rootDirectory, "/etc/cacerts");
  assert.ok(config.batchWindowMs <= 10);
});

test("what a chart sets is read", () => {
  const config = readConfig({
    POD_NAME: "istiod-1",
    POD_NAMESPACE: "mesh",
    CLUSTER_ID: "east",
    REVISION: "",
    CA_TRUSTED_NODE_ACCOUNTS: "mesh/ztunnel, kube-system/ztunnel",
    TOKEN_AUDIENCES: "istio-ca,other",
    DEFAULT_WORKLOAD_CERT_TTL: "12h0m0s",
    MAX_WORKLOAD_CERT_TTL: "48h",
    ISTIOD_CUSTOM_HOST: "istiod.example,10.0.0.1",
    AMBIENT_ENABLEMENT_SELECTOR: "- podSelector: {matchLabels: {mesh: 'yes'}}",
    EXCLUDE_NAMESPACES: "kube-system, ci",
    TULLE_SECURE_GRPC_PORT: "0",
  });
  assert.equal(config.revision, "default");
  assert.deepEqual([...config.auth.trustedNodeAccounts], ["mesh/ztunnel", "kube-system/ztunnel"]);
  assert.deepEqual(config.auth.audiences, ["istio-ca", "other"]);
  assert.deepEqual(config.enrolment.selectors[0]?.podSelector.matchLabels, { mesh: "yes" });
  assert.deepEqual([...config.enrolment.excludeNamespaces], ["kube-system", "ci"]);
  assert.equal(config.enrolment.systemNamespace, "mesh");
  assert.equal(config.ca.defaultTtlMs, 12 * 3_600_000);
  assert.deepEqual(config.ca.customHosts, ["istiod.example", "10.0.0.1"]);
  assert.equal(config.listen.secureGrpcPort, 0);
});

test("everything that is wrong is told at once", () => {
  const environment = {
    AMBIENT_ENABLEMENT_SELECTOR: "[{podSelektor: {}}]",
    EXCLUDE_NAMESPACES: "a,,b",
    CA_TRUSTED_NODE_ACCOUNTS: "ztunnel",
    DEFAULT_WORKLOAD_CERT_TTL: "tomorrow",
    TULLE_HTTP_PORT: "99999",
    TULLE_BATCH_WINDOW: "1s",
    LOG_FORMAT: "xml",
  };
  assert.throws(
    () => readConfig(environment),
    (error: Error) => Object.keys(environment).every((name) => error.message.includes(name)),
  );
  assert.throws(
    () => readConfig({ DEFAULT_WORKLOAD_CERT_TTL: "48h", MAX_WORKLOAD_CERT_TTL: "24h" }),
    /DEFAULT_WORKLOAD_CERT_TTL is more than MAX_WORKLOAD_CERT_TTL/,
  );
});
