import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { request } from "node:http";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { sleep } from "@tulle/base";
import { run, until } from "@tulle/lab";
import { SeqpacketSocket } from "@tulle/linux";
import { StoreError } from "@tulle/store";
import { PROVE_EVERY_MS } from "../src/lifecycle/keeper.ts";
import { MODE, NODE, TestNode, type TestPod, unmount } from "./test-node.ts";

describe("the plugin asks for new pods", () => {
  let node: TestNode;
  let socketPath: string;
  before(async () => {
    node = await TestNode.create();
    socketPath = join(node.config.runDirectory, "pluginevent.sock");
  });
  after(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  function post(body: unknown, path = "/cmdadd"): Promise<{ readonly status: number; readonly text: string }> {
    return new Promise((resolve, reject) => {
      const sent = request({ socketPath, path, method: "POST" }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      });
      sent.on("error", reject);
      sent.end(typeof body === "string" ? body : JSON.stringify(body));
    });
  }

  const body = (pod: TestPod, fields: object = {}) => ({
    Netns: pod.netns,
    PodName: pod.name,
    PodNamespace: "default",
    IPs: [{ Interface: 0, Address: { IP: pod.host.v4, Mask: "////AA==" }, Gateway: "10.96.255.254" }],
    ...fields,
  });

  test("both folders are root's alone", () => {
    for (const folder of [node.config.runDirectory, dirname(node.config.zdsSocket)]) {
      assert.equal(statSync(folder).mode & 0o777, 0o700);
    }
  });

  test("a pod of the mesh is captured before it starts, and annotated afterwards", async () => {
    const pod = await node.sandbox();
    node.object(pod, { ip: false });
    assert.deepEqual(await post(body(pod)), { status: 200, text: "" });
    assert.ok(node.ztunnel?.serves(pod.uid));
    assert.equal(await node.outbound(pod), "outbound");
    await node.untilCaptured(pod);
  });

  test("a pod outside of the mesh may start, and nothing is done to it", async () => {
    const pod = await node.sandbox();
    node.object(pod, { labels: { [MODE]: "none" }, ip: false });
    assert.equal((await post(body(pod))).status, 200);
    assert.equal(await node.rules(pod), "");
  });

  test("a sandbox that is made anew for the same pod is captured in its new namespace", async () => {
    const first = await node.sandbox();
    const second = { ...(await node.sandbox()), name: first.name, uid: first.uid };
    node.object(first, { ip: false });
    assert.equal((await post(body(first))).status, 200);
    assert.equal((await post(body(second))).status, 200);
    node.object(second, { annotations: node.annotations(first) });
    await node.untilCaptured(second);
    assert.equal(await node.outbound(second), "outbound");
  });

  test("a sandbox that is made anew is captured while the API still has the addresses of the former one", async () => {
    const first = await node.captured();
    const second = { ...(await node.sandbox()), name: first.name, uid: first.uid };
    assert.deepEqual(await post(body(second)), { status: 200, text: "" });
    assert.equal(await node.outbound(second), "outbound");
    // It is looked at every second, and nothing is found wrong with it before the kubelet has said more.
    await unmount(first.netns);
    const before = node.events(first, "CaptureLost").length;
    await sleep(2 * PROVE_EVERY_MS);
    assert.deepEqual(node.events(first, "CaptureLost").slice(before), []);
    assert.ok(node.ztunnel?.serves(first.uid));
    node.object(second, { annotations: node.annotations(first) });
    await node.untilCaptured(second);
    assert.equal(await node.outbound(second), "outbound");
    await run("mount", ["--bind", first.host.namespace.path, first.netns]);
  });

  test("a pod whose former address another one has by now is not captured in that one's namespace", async () => {
    const holder = await node.captured();
    const stale = { ...holder, name: "stale", uid: "uid-stale" };
    node.object(stale);
    await until(() => node.events(stale, "CaptureLost").some((text) => text.includes(`default/${holder.name} too`)), {
      what: "the Event",
    });
    assert.equal(node.condition(stale)?.status, "False");
    assert.equal(node.annotations(stale)["ambient.istio.io/redirection"], undefined);
    assert.ok(!node.ztunnel?.serves(stale.uid));
    assert.ok(node.ztunnel?.serves(holder.uid));
    // Its own sandbox comes by the plugin, whatever the API still says.
    const own = { ...(await node.sandbox()), name: stale.name, uid: stale.uid };
    assert.deepEqual(await post(body(own)), { status: 200, text: "" });
    assert.equal(await node.outbound(own), "outbound");
    node.object(own, { annotations: node.annotations(stale) });
    await node.untilCaptured(own);
  });

  test("without ztunnel a pod of the mesh does not start, and what was begun holds its traffic back", async () => {
    await node.ztunnel?.[Symbol.asyncDispose]();
    const pod = await node.sandbox();
    node.object(pod, { ip: false });
    const { status, text } = await post(body(pod));
    assert.equal(status, 500);
    assert.match(text, /no ztunnel is connected/);
    await assert.rejects(node.outbound(pod), { code: "ECONNREFUSED" });
    await node.connectZtunnel();
    assert.equal((await post(body(pod))).status, 200, "the kubelet tries again");
  });

  test("while the API is away a pod that is known gets its new sandbox, and one that is not waits", async () => {
    const [known, unknown] = [await node.sandbox(), await node.sandbox()];
    node.object(known, { ip: false });
    node.store.failing = new StoreError("UNAVAILABLE", "away");
    try {
      assert.equal((await post(body(known))).status, 200);
      assert.equal((await post(body(unknown))).status, 500);
    } finally {
      node.store.failing = undefined;
    }
    assert.equal(await node.outbound(known), "outbound");
    await node.untilCaptured(known);
  });

  const attacks: readonly (readonly [what: string, fields: (other: TestPod) => object, text: RegExp])[] = [
    [
      "a namespace outside of the folder",
      (other) => ({ Netns: `/tmp/..${other.host.namespace.path}` }),
      /is no file in/,
    ],
    ["a process' namespace", () => ({ Netns: "/proc/1/ns/net" }), /is no file in/],
    ["another pod's namespace", (other) => ({ Netns: other.netns }), /does not hold/],
    ["another pod's namespace and address", (other) => ({ Netns: other.netns, IPs: ip(other.host.v4) }), /already/],
    ["an address that is not there", () => ({ IPs: ip("203.0.113.9") }), /does not hold/],
    ["a pod that nobody knows", () => ({ PodName: "stranger" }), /is not known/],
  ];
  for (const [what, fields, text] of attacks) {
    test(`refused: ${what}`, async () => {
      const [pod, other] = [await node.sandbox(), await node.captured()];
      node.object(pod, { ip: false });
      const answer = await post(body(pod, fields(other)));
      assert.equal(answer.status, 500);
      assert.match(answer.text, text);
      assert.ok(!node.ztunnel?.serves(pod.uid));
      assert.equal(await node.outbound(other), "outbound", "the other pod is as it was");
      node.store.remove("Pod", { namespace: "default", name: pod.name });
    });
  }

  test("refused: a pod of another node", async () => {
    const pod = await node.sandbox();
    node.object(pod, { ip: false, spec: { nodeName: `${NODE}-other` } });
    assert.match((await post(body(pod))).text, /belongs to node n1-other/);
  });

  test("what cannot be read is told so", async () => {
    const pod = await node.sandbox();
    const wrong: readonly (readonly [unknown, RegExp])[] = [
      ["{", /cannot be read/],
      [[], /must be an object/],
      [body(pod, { Netns: "" }), /Netns must be a text/],
      [body(pod, { PodName: 7 }), /PodName must be a text/],
      [body(pod, { IPs: [] }), /at least one/],
      [body(pod, { IPs: ip("x") }), /is no address/],
      [body(pod, { IPs: Array.from({ length: 17 }, () => ip("10.0.0.1")[0]) }), /more than 16/],
      ["x".repeat(70_000), /longer than/],
    ];
    for (const [value, text] of wrong) {
      const answer = await post(value);
      assert.equal(answer.status, 400);
      assert.match(answer.text, text);
    }
    assert.equal((await post({}, "/other")).status, 404);
  });

  test("refused: whoever is not root, even with a way in", async () => {
    // The folders are opened for everybody, as if a descriptor had leaked; who asks still counts.
    await run("chmod", ["711", node.folder, node.config.runDirectory, dirname(node.config.zdsSocket)]);
    await run("chmod", ["666", socketPath, node.config.zdsSocket]);
    const nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    const pod = await node.sandbox();
    node.object(pod, { ip: false });
    const curl = ["curl", "-s", "--unix-socket", socketPath, "-d", JSON.stringify(body(pod)), "http://unix/cmdadd"];
    await assert.rejects(run("setpriv", [...nobody, ...curl]), /exit code/);
    assert.ok(!node.ztunnel?.serves(pod.uid));
    assert.match(await metricsOf(node), /tulle_peers_refused_total\{socket="plugin"\} 1/);
    await run("chmod", ["700", node.config.runDirectory, dirname(node.config.zdsSocket)]);
  });

  test("a root process that is no ztunnel of this node is told of no pod", async () => {
    const object = node.store.find(
      { group: "", version: "v1", kind: "Pod", plural: "pods", namespaced: true },
      {
        namespace: "istio-system",
        name: "ztunnel",
      },
    );
    assert.ok(object);
    node.store.put({ ...object, metadata: { ...object.metadata, annotations: { "tulle.dev/pid": "1" } } });
    const stranger = SeqpacketSocket.connect(node.config.zdsSocket);
    const refused = /tulle_peers_refused_total\{socket="ztunnel"\} 1/;
    await until(async () => refused.test(await metricsOf(node)), { what: "the refusal" });
    stranger.close();
  });
});

function ip(text: string) {
  return [{ Address: { IP: text, Mask: "/////w==" } }];
}

async function metricsOf(node: TestNode): Promise<string> {
  return (await fetch(`http://127.0.0.1:${node.agent?.ports.metrics}/metrics`)).text();
}
