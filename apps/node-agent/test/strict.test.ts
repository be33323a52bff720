import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connectFrom, until } from "@tulle/lab";
import { Connection, SERVER_PORT, TestNode, type TestPod } from "./test-node.ts";
import { APP_PORT } from "./ztunnel-double.ts";

describe("connections older than enrolment, and mutual TLS", () => {
  let node: TestNode;
  before(async () => {
    node = await TestNode.create();
  });
  after(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  const inward = (pod: TestPod) =>
    Connection.open(connectFrom(node.server.namespace.path, { ip: pod.host.v4, port: APP_PORT }));
  const outward = (pod: TestPod) =>
    Connection.open(connectFrom(pod.host.namespace.path, { ip: node.server.v4, port: SERVER_PORT }));
  const policy = (spec: object) =>
    node.store.put({
      apiVersion: "security.istio.io/v1",
      kind: "PeerAuthentication",
      metadata: { name: "p", namespace: "default" },
      spec,
    });
  const noPolicy = () => node.store.remove("PeerAuthentication", { namespace: "default", name: "p" });

  test("without a policy they go on", async () => {
    const pod = await node.sandbox();
    using old = await inward(pod);
    node.object(pod);
    await node.untilCaptured(pod);
    await old.echo("in plaintext");
  });

  test("under STRICT incoming ones are reset when the pod is captured; outgoing ones are the other side's matter", async () => {
    const pod = await node.sandbox();
    policy({ mtls: { mode: "STRICT" } });
    using old = await inward(pod);
    using out = await outward(pod);
    node.object(pod);
    await until(() => old.socket.destroyed, { what: "the reset" });
    await node.untilCaptured(pod);
    await out.echo("goes on");
    assert.match(node.events(pod, "PlaintextCut")[0] ?? "", /^1 plaintext connections/);
    noPolicy();
  });

  test("when the policy becomes STRICT later they are reset", async () => {
    const pod = await node.sandbox();
    using old = await inward(pod);
    node.object(pod);
    await node.untilCaptured(pod);
    await old.echo("still");
    policy({ mtls: { mode: "STRICT" } });
    await until(() => old.socket.destroyed, { what: "the reset" });
    await node.untilCaptured(pod);
    noPolicy();
  });

  test("a port that is exempt keeps them", async () => {
    const pod = await node.sandbox();
    using old = await inward(pod);
    policy({
      selector: { matchLabels: { app: "x" } },
      mtls: { mode: "STRICT" },
      portLevelMtls: { [APP_PORT]: { mode: "PERMISSIVE" } },
    });
    node.object(pod, { labels: { app: "x" } });
    await node.untilCaptured(pod);
    await old.echo("exempt");
    policy({
      selector: { matchLabels: { app: "x" } },
      mtls: { mode: "PERMISSIVE" },
      portLevelMtls: { [APP_PORT]: { mode: "STRICT" } },
    });
    await until(() => old.socket.destroyed, { what: "the reset" });
    noPolicy();
  });

  test("a policy for the whole mesh counts in the namespace that MeshConfig names, and in no other", async () => {
    const pod = await node.sandbox();
    using old = await inward(pod);
    node.object(pod);
    await node.untilCaptured(pod);
    for (const namespace of ["istio-system", "roots"]) {
      const metadata = { name: "mesh-wide", namespace };
      const spec = { mtls: { mode: namespace === "roots" ? "STRICT" : "PERMISSIVE" } };
      node.store.put({ apiVersion: "security.istio.io/v1", kind: "PeerAuthentication", metadata, spec });
    }
    await old.echo("not yet");
    const root = (mesh: string) =>
      node.store.put({
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name: "istio", namespace: "istio-system" },
        data: { mesh },
      });
    root("rootNamespace: [roots");
    await old.echo("what cannot be read changes nothing");
    root("rootNamespace: roots");
    await until(() => old.socket.destroyed, { what: "the reset" });
  });
});
