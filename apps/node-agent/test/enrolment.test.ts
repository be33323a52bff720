import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connectFrom, until } from "@tulle/lab";
import { Connection, MODE, SERVER_PORT, TestNode, type TestPod } from "./test-node.ts";
import { APP_PORT } from "./ztunnel-double.ts";

describe("running pods join and leave the mesh", () => {
  let node: TestNode;
  before(async () => {
    node = await TestNode.create();
  });
  after(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  const fromServer = (pod: TestPod) =>
    Connection.open(connectFrom(node.server.namespace.path, { ip: pod.host.v4, port: APP_PORT }));
  const toServer = (pod: TestPod) =>
    Connection.open(connectFrom(pod.host.namespace.path, { ip: node.server.v4, port: SERVER_PORT }));

  test("a pod of an ambient namespace is captured, and says so with the node's boot id", async () => {
    const pod = await node.captured();
    assert.equal(node.annotations(pod)["ambient.tulle.dev/boot-id"], "boot-1");
    assert.equal(await node.outbound(pod), "outbound");
    assert.ok(node.ztunnel?.serves(pod.uid));
    assert.equal(node.condition(pod)?.reason, "Captured");
  });

  test("a connection from before goes on, is counted and told", async () => {
    const pod = await node.sandbox();
    using old = await toServer(pod);
    assert.equal(old.name, "server");
    node.object(pod);
    await node.untilCaptured(pod);
    await old.echo("past ztunnel");
    assert.match(node.condition(pod)?.message ?? "", /1 connections older/);
  });

  test("ztunnel's word comes before the rules", async () => {
    const pod = await node.sandbox();
    node.ztunnel?.refusing.add(pod.uid);
    node.object(pod);
    await until(() => node.condition(pod)?.status === "False", { what: "the refusal" });
    assert.match(node.condition(pod)?.message ?? "", /refused by the test/);
    assert.equal(await node.rules(pod), "");
    assert.equal(node.annotations(pod)["ambient.istio.io/redirection"], undefined);
    node.ztunnel?.refusing.delete(pod.uid);
    await node.untilCaptured(pod);
  });

  test("a pod leaves when the control plane has said so, and its captured connections outlive that", async () => {
    const pod = await node.captured();
    using out = await toServer(pod);
    using inward = await fromServer(pod);
    assert.equal(out.name, "outbound");
    assert.equal(inward.name, "app");
    await node.label(pod, { [MODE]: "none" });
    await until(() => node.annotations(pod)["ambient.tulle.dev/leaving"] !== undefined, { what: "the request" });
    assert.equal(node.annotations(pod)["ambient.istio.io/redirection"], undefined);
    assert.equal(await node.outbound(pod), "outbound", "still captured while peers are being told");
    using _control = node.answerLeaving();
    await until(() => node.condition(pod)?.reason === "Draining", { what: "draining" });
    assert.equal(await node.outbound(pod), "server");
    await out.echo("still captured");
    await inward.echo("still captured");
    assert.ok(node.ztunnel?.serves(pod.uid));
    out.socket.end();
    inward.socket.end();
    await node.untilOutside(pod);
    assert.equal(await node.rules(pod), "");
    assert.ok(!node.ztunnel?.serves(pod.uid));
    assert.deepEqual(node.events(pod, "LeaveNotConfirmed"), []);
  });

  test("a pod whose leaving nobody confirms leaves all the same, and that is told", async () => {
    const pod = await node.captured();
    await node.label(pod, { [MODE]: "none" });
    await node.untilOutside(pod);
    assert.equal(node.events(pod, "LeaveNotConfirmed").length, 1);
  });

  test("what users write on a pod that leaves is a claim too, and keeps it from nothing", async () => {
    const pod = await node.captured();
    using inward = await fromServer(pod);
    const claim = { "ambient.istio.io/redirection": "enabled", "ambient.tulle.dev/leaving": null };
    const untilAnnounced = async (id: string | undefined) => {
      await until(
        () => {
          const { "ambient.istio.io/redirection": redirection, "ambient.tulle.dev/leaving": leaving } =
            node.annotations(pod);
          return redirection === undefined && leaving === id;
        },
        { what: "the claim to go" },
      );
    };
    await node.label(pod, { [MODE]: "none" });
    await until(() => node.annotations(pod)["ambient.tulle.dev/leaving"] !== undefined, { what: "the request" });
    const id = node.annotations(pod)["ambient.tulle.dev/leaving"];
    await node.annotate(pod, claim);
    await untilAnnounced(id);
    assert.equal(await node.outbound(pod), "outbound", "peers are still being told");
    using _control = node.answerLeaving();
    await until(() => node.condition(pod)?.reason === "Draining", { what: "draining" });
    await node.annotate(pod, claim);
    await untilAnnounced(id);
    await until(() => node.events(pod, "RedirectionNotConfirmed").length === 2, { what: "both Events" });
    await inward.echo("still captured");
    inward.socket.end();
    await node.untilOutside(pod);
    assert.deepEqual(node.events(pod, "LeaveNotConfirmed"), []);
  });

  test("a pod may come back while it drains, and loses nothing", async () => {
    const pod = await node.captured();
    using _control = node.answerLeaving();
    using out = await toServer(pod);
    await node.label(pod, { [MODE]: "none" });
    await until(() => node.condition(pod)?.reason === "Draining", { what: "draining" });
    await node.label(pod, { [MODE]: null });
    await node.untilCaptured(pod);
    assert.equal(node.annotations(pod)["ambient.tulle.dev/leaving"], undefined);
    assert.equal(await node.outbound(pod), "outbound");
    await out.echo("through it all");
    assert.equal(node.ztunnel?.log.filter((line) => line === `stop ${pod.uid}`).length, 0);
  });

  test("the namespace's label takes all of its pods in and out", async () => {
    using _control = node.answerLeaving();
    const pod = await node.captured();
    node.namespace("default");
    await node.untilOutside(pod);
    assert.equal(await node.outbound(pod), "server");
    node.namespace("default", "ambient");
    await node.untilCaptured(pod);
    assert.equal(await node.outbound(pod), "outbound");
  });

  test("a pod that is deleted, or ends, is forgotten at once", async () => {
    const [deleted, ended] = [await node.captured(), await node.captured()];
    node.store.remove("Pod", { namespace: "default", name: deleted.name });
    await until(() => !node.ztunnel?.serves(deleted.uid), { what: "the deleted pod to go" });
    const object = node.pod(ended);
    node.store.put({ ...object, status: { ...object.status, phase: "Succeeded" } });
    await until(() => !node.ztunnel?.serves(ended.uid), { what: "the ended pod to go" });
    await node.untilOutside(ended);
  });

  test("rules follow the pod's annotations", async () => {
    const pod = await node.captured();
    assert.match(await node.rules(pod), /redirect to :15053/);
    await node.annotate(pod, { "ambient.istio.io/dns-capture": "false" });
    await until(async () => !/redirect to :15053/.test(await node.rules(pod)), { what: "DNS to be left alone" });
    await node.untilCaptured(pod);
    assert.deepEqual(node.events(pod, "CaptureLost"), []);
  });
});
