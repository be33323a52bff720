import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { connectFrom, until } from "@tulle/lab";
import { DEFAULT_PROBE_IPS } from "@tulle/linux";
import { Connection, MODE, SERVER_PORT, TestNode, type TestPod } from "./test-node.ts";

const ENABLED = "ambient.istio.io/redirection";

describe("an agent follows another one", () => {
  let node: TestNode;
  before(async () => {
    node = await TestNode.create();
  });
  beforeEach(() => {
    node.store.events.length = 0;
  });
  after(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  const toServer = (pod: TestPod) =>
    Connection.open(connectFrom(pod.host.namespace.path, { ip: node.server.v4, port: SERVER_PORT }));
  /** What happens while no agent runs. */
  async function meanwhile(action: () => unknown): Promise<void> {
    await node.agent?.terminate();
    await action();
    await node.start();
    await until(() => node.ztunnel?.ready === true, { what: "ztunnel's snapshot" });
  }

  test("captured pods are proven anew, and ztunnel serves them without a break", async () => {
    const pod = await node.captured();
    using connection = await toServer(pod);
    await meanwhile(() => {});
    await node.untilCaptured(pod);
    await connection.echo("through the restart");
    assert.equal(node.ztunnel?.log.filter((line) => line === `stop ${pod.uid}`).length, 0);
    assert.deepEqual(node.events(pod, "CaptureLost"), []);
  });

  test("rules that went meanwhile are told and made anew", async () => {
    const pod = await node.captured();
    await meanwhile(() => pod.host.namespace.run("nft", ["flush", "ruleset"]));
    await until(async () => (await node.outbound(pod)) === "outbound", { what: "capture" });
    await node.untilCaptured(pod);
    assert.match(node.events(pod, "CaptureLost")[0] ?? "", /^RulesChanged: none/);
  });

  test("rules that were changed meanwhile are told and mended, and connections go on", async () => {
    const pod = await node.captured();
    using connection = await toServer(pod);
    await meanwhile(() => pod.host.namespace.run("nft", ["flush chain inet tulle-pod nat-output"]));
    await until(() => node.events(pod, "CaptureRestored").length > 0, { what: "the repair" });
    await connection.echo("captured still");
    assert.equal(await node.outbound(pod), "outbound");
  });

  test("after the node's restart annotations are worth nothing until the pod is captured anew", async () => {
    const pod = await node.captured();
    await meanwhile(async () => {
      node.bootId = "boot-2";
      await pod.host.namespace.run("nft", ["flush", "ruleset"]);
    });
    await until(() => node.annotations(pod)["ambient.tulle.dev/boot-id"] === "boot-2", { what: "the new boot id" });
    await node.untilCaptured(pod);
    assert.match(node.events(pod, "CaptureLost")[0] ?? "", /^NodeRebooted: /);
    assert.equal(await node.outbound(pod), "outbound");
  });

  test("a pod that says it is captured and never was is captured in good order", async () => {
    const pod = await node.sandbox();
    await meanwhile(() => node.object(pod, { annotations: { [ENABLED]: "enabled" } }));
    await node.untilCaptured(pod);
    assert.equal(await node.outbound(pod), "outbound");
  });

  test("a pod that says so and is none of the mesh's loses the annotation", async () => {
    const pod = await node.sandbox();
    await meanwhile(() => node.object(pod, { annotations: { [ENABLED]: "enabled" }, labels: { [MODE]: "none" } }));
    await node.untilOutside(pod);
    assert.equal(await node.outbound(pod), "server");
  });

  test("a pod whose label went meanwhile leaves", async () => {
    using _control = node.answerLeaving();
    const pod = await node.captured();
    await meanwhile(() => node.label(pod, { [MODE]: "none" }));
    await node.untilOutside(pod);
    assert.equal(await node.rules(pod), "");
  });

  test("a pod that was leaving goes on with it", async () => {
    using _control = node.answerLeaving();
    const pod = await node.captured();
    using connection = await toServer(pod);
    await node.label(pod, { [MODE]: "none" });
    await until(() => node.condition(pod)?.reason === "Draining", { what: "draining" });
    await meanwhile(() => {});
    await connection.echo("draining still");
    connection.socket.end();
    await node.untilOutside(pod);
    assert.equal(await node.rules(pod), "");
  });

  test("rules that nobody speaks of any more are taken away", async () => {
    const pod = await node.captured();
    await meanwhile(async () => {
      await node.label(pod, { [MODE]: "none" });
      await node.annotate(pod, { [ENABLED]: null, "ambient.tulle.dev/boot-id": null });
    });
    await until(async () => (await node.rules(pod)) === "", { what: "the rules to go", timeoutMs: 15_000 });
    await node.untilOutside(pod);
    assert.equal(await node.outbound(pod), "server");
  });

  test("a pod that went meanwhile is no longer in ztunnel's snapshot", async () => {
    const pod = await node.captured();
    await meanwhile(() => node.store.remove("Pod", { namespace: "default", name: pod.name }));
    await until(() => !node.ztunnel?.serves(pod.uid), { what: "ztunnel to let go" });
  });
});

describe("the agent is removed", () => {
  test("every pod leaves, those with connections at the deadline, and nothing stays on pods, host or disk", async () => {
    await using node = await TestNode.create({ env: { TULLE_ON_TERMINATION: "remove" } });
    using _control = node.answerLeaving();
    const probe = { containers: [{ readinessProbe: { tcpSocket: { port: 8080 } } }] };
    const [idle, busy] = [await node.captured({ spec: probe }), await node.captured()];
    using _connection = await Connection.open(
      connectFrom(busy.host.namespace.path, { ip: node.server.v4, port: SERVER_PORT }),
    );
    assert.match(await node.lab.fabric.run("nft", ["list", "ruleset"]), new RegExp(DEFAULT_PROBE_IPS[0] ?? "-"));
    const started = performance.now();
    await node.agent?.terminate();
    assert.ok(performance.now() - started < 30_000, "the deadline holds");
    node.agent = undefined;
    for (const pod of [idle, busy]) {
      assert.equal(await node.rules(pod), "");
      assert.deepEqual(node.annotations(pod), {});
      assert.equal(node.condition(pod), undefined);
      assert.equal(await node.outbound(pod), "server");
    }
    assert.equal(await node.lab.fabric.run("nft", ["list", "ruleset"]), "");
  });
});
