import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connectFrom, listenIn, until } from "@tulle/lab";
import { DEFAULT_PROBE_IPS } from "@tulle/linux";
import { Connection, MODE, TestNode, type TestPod } from "./test-node.ts";
import { APP_PORT, greet } from "./ztunnel-double.ts";

const OTHER_PORT = 8081;
const PROBED = { containers: [{ readinessProbe: { httpGet: { port: APP_PORT } } }] };

/** The lab's fabric is the host, this process its kubelet. */
describe("the kubelet's probes pass by ztunnel", () => {
  let node: TestNode;
  before(async () => {
    node = await TestNode.create();
  });
  after(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  /** As which address a pod sees a connection of the host to a port; "refused" when it does not reach the application. */
  async function seenAs(pod: TestPod, port: number): Promise<string> {
    let from = "nobody";
    await using _application = await listenIn(
      pod.host.namespace.path,
      { ip: pod.host.v4, port: OTHER_PORT },
      (socket) => {
        from = socket.remoteAddress ?? "";
        greet("app")(socket);
      },
    );
    using connection = await Connection.open(connectFrom(node.lab.fabric.path, { ip: pod.host.v4, port }));
    return port === OTHER_PORT ? from : connection.name;
  }
  const targets = async () => {
    const text = await node.lab.fabric.run("nft", ["list", "set", "inet", "tulle-node", "probes-v4"]);
    return [...text.matchAll(/([0-9.]+) \. ([0-9a-z-]+)/g)].map(([one]) => one);
  };

  test("to declared ports, under the address that only they have", async () => {
    const spec = { containers: [{ readinessProbe: { httpGet: { port: OTHER_PORT } } }] };
    const pod = await node.captured({ spec });
    assert.equal(await seenAs(pod, OTHER_PORT), DEFAULT_PROBE_IPS[0]);
  });

  test("not to others: those connections of the host are captured like everybody's", async () => {
    const pod = await node.captured({ spec: PROBED });
    // ztunnel's double passes everything on to one port: whoever gets there came through it.
    await node.ztunnel?.closeListener(pod.uid, 15006);
    await assert.rejects(seenAs(pod, OTHER_PORT), { code: "ECONNREFUSED" });
    assert.equal(await seenAs(pod, APP_PORT), "app", "the probe does not need ztunnel");
  });

  test("not for a neighbour that takes the address: it gets no answer", async () => {
    const pod = await node.captured({ spec: PROBED });
    const source = { ip: DEFAULT_PROBE_IPS[0] ?? "", port: 0 };
    const options = { source, foreignSource: true, timeoutMs: 500 };
    const from = node.server.namespace.path;
    await assert.rejects(connectFrom(from, { ip: pod.host.v4, port: APP_PORT }, options), { code: "ETIMEDOUT" });
  });

  test("as long as the pod is in the mesh", async () => {
    using _control = node.answerLeaving();
    const [leaving, deleted] = [await node.captured({ spec: PROBED }), await node.captured({ spec: PROBED })];
    const has = async (pod: TestPod) => (await targets()).some((one) => one.startsWith(`${pod.host.v4} . `));
    assert.ok((await has(leaving)) && (await has(deleted)));
    await node.label(leaving, { [MODE]: "none" });
    node.store.remove("Pod", { namespace: "default", name: deleted.name });
    await node.untilOutside(leaving);
    await until(async () => !(await has(leaving)) && !(await has(deleted)), { what: "the targets to go" });
  });

  test("and the host's rules are made anew when somebody takes them away", async () => {
    const pod = await node.captured({ spec: PROBED });
    await node.lab.fabric.run("nft", ["flush", "ruleset"]);
    await until(async () => (await targets()).some((one) => one.startsWith(`${pod.host.v4} . `)), {
      what: "the repair",
      timeoutMs: 15_000,
    });
  });

  test("what an agent left stays in force for the next one", async () => {
    const pod = await node.captured({ spec: PROBED });
    await node.agent?.terminate();
    assert.ok((await targets()).some((one) => one.startsWith(`${pod.host.v4} . `)));
    await node.start();
    assert.ok((await targets()).some((one) => one.startsWith(`${pod.host.v4} . `)));
  });
});
