import assert from "node:assert/strict";
import { test } from "node:test";
import { NO_OBJECTS } from "../objects/view.ts";
import type { Pod } from "../objects/pod.ts";
import { summary } from "./summary.ts";

function pod(namespace: string, name: string, meshed: boolean): Pod {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace,
      uid: name,
      labels: {},
      annotations: meshed ? { "ambient.istio.io/redirection": "enabled" } : {},
      ownerReferences: [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: "r", uid: "r", controller: true }],
    },
    spec: { nodeName: "node-1", serviceAccountName: "web", containers: [] },
    status: {
      phase: "Running",
      podIP: "10.201.1.10",
      podIPs: [],
      hostIP: "",
      conditions: [{ type: "Ready", status: meshed ? "True" : "False" }],
      containerStatuses: [
        { name: "web", ready: true, restartCount: 0, ...(meshed ? { containerID: "process://42" } : {}) },
      ],
    },
  };
}

test("the summary names pods, nodes, identities and protocol, and what to try next", () => {
  const text = summary({
    objects: { ...NO_OBJECTS, pods: [pod("shop", "web-1", true), pod("plain", "old-1", false)] },
    name: "demo",
    published: [{ service: "shop/web", url: "http://localhost:8080/" }],
    directory: "/here",
    logsFolder: "/logs",
    bridge: "bridge",
    namespaceOf: (one) => `netns-${one.metadata.name}`,
    processes: [
      { node: "-", role: "control plane", namespace: "netns-istiod", address: "10.201.0.2", pid: 6 },
      { node: "node-1", role: "ztunnel", namespace: "netns-node-1", address: "10.201.0.11", pid: 7 },
    ],
  });
  assert.equal(
    text,
    `NODE    ADDRESS      PROCESS        PID
-       10.201.0.2   control plane  6
node-1  10.201.0.11  ztunnel        7

POD          NODE    STATE      ADDRESS      PROTOCOL      IDENTITY                               PID
plain/old-1  node-1  not ready  10.201.1.10  plaintext     -                                      -
shop/web-1   node-1  ready      10.201.1.10  HBONE (mTLS)  spiffe://cluster.local/ns/shop/sa/web  42

Try next:
  open web (plaintext on this machine up to the ingress pod)  http://localhost:8080/
  or ask for it                                               curl -sL http://localhost:8080/
  change who may call whom: edit and save                     /here/*.yaml
  step into a pod's network                                   ip netns exec netns-web-1 nft list ruleset
  kill shop/web-1                                             kill -9 42
  see what crosses the wire                                   tcpdump -ni bridge -X tcp
  ask node-1's ztunnel                                        ip netns exec netns-node-1 curl -s localhost:15000/config_dump
  see objects with their status                               tulle get authorizationpolicies -A --local demo
  read the logs                                               /logs/

Ctrl-C ends the mesh and removes everything it made.
`,
  );
});
