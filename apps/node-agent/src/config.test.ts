import assert from "node:assert/strict";
import { test } from "node:test";
import { readConfig } from "./config.ts";

const NODE = { NODE_NAME: "n1" };

test("only the node's name is needed", () => {
  const config = readConfig(NODE);
  assert.equal(config.systemNamespace, "istio-system");
  assert.deepEqual([...config.excludeNamespaces], ["kube-system"]);
  assert.equal(config.zdsSocket, "/var/run/ztunnel/ztunnel.sock");
  assert.equal(config.runDirectory, "/var/run/istio-cni");
  assert.deepEqual(config.netnsAliases, ["/var/run/netns", "/run/netns"]);
  assert.deepEqual(config.probeIps, ["169.254.7.127", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"]);
  assert.equal(config.peerCheck, "cgroup");
  assert.equal(config.onTermination, "ask");
  assert.equal(config.installPlugin, true);
});

test("in a local mesh nobody probes from the host, nothing is installed, and pids come from annotations", () => {
  const config = readConfig({ ...NODE, TULLE_STORE: "directory" });
  assert.deepEqual(config.probeIps, []);
  assert.equal(config.peerCheck, "annotation");
  assert.equal(config.onTermination, "keep");
  assert.equal(config.installPlugin, false);
});

test("the enablement selector is YAML", () => {
  const text = `
- podSelector:
    matchLabels: {mesh: "yes"}
- namespaceSelector:
    matchExpressions:
      - {key: mesh, operator: Exists}
`;
  const [pod, namespace] = readConfig({ ...NODE, AMBIENT_ENABLEMENT_SELECTOR: text }).enablement;
  assert.deepEqual(pod?.podSelector.matchLabels, { mesh: "yes" });
  assert.deepEqual(namespace?.namespaceSelector.matchExpressions, [{ key: "mesh", operator: "Exists", values: [] }]);
});

test("everything that is wrong is told at once", () => {
  const env = {
    AMBIENT_IPV6: "yes",
    ZTUNNEL_UDS_ADDRESS: "ztunnel.sock",
    HOST_PROBE_SNAT_IP: "fd00::1",
    AMBIENT_ENABLEMENT_SELECTOR: "[{podSelektor: {}}]",
    TULLE_DRAIN_DEADLINE: "soon",
    EXCLUDE_NAMESPACES: "a,,b",
  };
  assert.throws(
    () => readConfig(env),
    (error: Error) => {
      for (const name of ["NODE_NAME", ...Object.keys(env)]) assert.match(error.message, new RegExp(name));
      return true;
    },
  );
});
