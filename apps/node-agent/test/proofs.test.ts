import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { run, until } from "@tulle/lab";
import { destroyTcpSockets, NetNamespace, TcpState, tcpSockets } from "@tulle/linux";
import type { PodCondition } from "../src/objects.ts";
import { TestNode, type TestPod, unmount } from "./test-node.ts";

/** Repairs come within seconds: the node's pods are proven every second. */
const SOON = { timeoutMs: 8000 };

describe("a captured pod is proven to be captured, and mended", () => {
  let node: TestNode;
  let pod: TestPod;
  before(async () => {
    node = await TestNode.create();
    pod = await node.captured();
  });
  after(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  /** Every condition that was written since. */
  function conditionsOf(what: TestPod): Disposable & { readonly seen: PodCondition[] } {
    const seen: PodCondition[] = [];
    const watch = node.store.watch(
      { group: "", version: "v1", kind: "Pod", plural: "pods", namespaced: true },
      {
        put: (object) => {
          if (object.metadata.name !== what.name) return;
          const now = node.condition(what);
          if (now !== undefined && now.reason !== seen.at(-1)?.reason) seen.push(now);
        },
        gone: () => {},
      },
    );
    return { seen, [Symbol.dispose]: () => watch.close() };
  }

  async function breaks(reason: string, fault: () => Promise<unknown>, mended: () => Promise<boolean>): Promise<void> {
    await node.untilCaptured(pod);
    using conditions = conditionsOf(pod);
    const before = node.events(pod, "CaptureLost").length;
    const restored = node.events(pod, "CaptureRestored").length;
    await fault();
    await until(() => node.events(pod, "CaptureRestored").length > restored, { what: "the repair's Event", ...SOON });
    assert.ok(await mended(), "mended");
    const [event] = node.events(pod, "CaptureLost").slice(before);
    assert.match(event ?? "", new RegExp(`^${reason}: `));
    await node.untilCaptured(pod);
    const told = conditions.seen.find((one) => one.reason === reason);
    assert.equal(told?.status, "False");
    assert.notEqual(told?.message ?? "", "");
    assert.equal(conditions.seen.at(-1)?.status, "True");
  }

  const nft = (...words: string[]) => pod.host.namespace.run("nft", words);
  const captures = async () => (await node.outbound(pod)) === "outbound";

  test("all rules flushed", () => breaks("RulesChanged", () => nft("flush", "ruleset"), captures));

  test("one rule changed", () =>
    breaks(
      "RulesChanged",
      () => nft("insert rule inet tulle-pod nat-output ip daddr 203.0.113.1 accept"),
      async () => !(await node.rules(pod)).includes("203.0.113.1"),
    ));

  test("the way back for ztunnel's connections taken away", () =>
    breaks(
      "RulesChanged",
      () => pod.host.namespace.run("ip", ["rule", "del", "pref", "32764"]),
      async () => (await pod.host.namespace.run("ip", ["rule"])).includes("32764"),
    ));

  for (const port of [15001, 15006, 15008, 15053]) {
    test(`the listener on ${port} closed`, () =>
      breaks("ListenersMissing", async () => node.ztunnel?.closeListener(pod.uid, port), captures));
  }

  test("a listener that was destroyed in the kernel", () =>
    breaks(
      "ListenersMissing",
      async () => {
        using namespace = NetNamespace.open(pod.host.namespace.path);
        const listeners = tcpSockets(namespace, [TcpState.LISTEN]).filter(({ local }) => local.port === 15001);
        assert.ok(destroyTcpSockets(namespace, listeners) > 0);
      },
      captures,
    ));

  test("ztunnel ended, and another one came", () =>
    breaks(
      "ZtunnelDisconnected",
      async () => {
        await node.ztunnel?.[Symbol.asyncDispose]();
        await until(() => node.condition(pod)?.reason === "ZtunnelDisconnected", { what: "the condition", ...SOON });
        assert.equal(node.annotations(pod)["ambient.istio.io/redirection"], "enabled", "what is refused stays refused");
        await node.connectZtunnel();
      },
      captures,
    ));

  test("a ztunnel that lost the pod", () =>
    breaks(
      "ListenersMissing",
      async () => {
        for (const port of [15001, 15006, 15008, 15053]) await node.ztunnel?.closeListener(pod.uid, port);
      },
      captures,
    ));

  test("the annotation taken away by hand comes back; a foreign listener on ztunnel's port is none", async () => {
    await node.annotate(pod, { "ambient.istio.io/redirection": null, "ambient.tulle.dev/boot-id": null });
    await node.untilCaptured(pod);
  });

  test("the namespace became another one: the pod is captured where it is, and let go where it is not", async () => {
    const [wrong, right] = [await node.captured(), await node.sandbox()];
    // What a network plugin does when it makes the sandbox anew without asking us.
    const object = node.pod(wrong);
    node.store.put({
      ...object,
      status: { ...object.status, podIP: right.host.v4, podIPs: [{ ip: right.host.v4 }] },
    });
    await until(() => node.events(wrong, "CaptureLost").some((text) => text.startsWith("WrongNamespace: ")), {
      what: "the Event",
      ...SOON,
    });
    await until(async () => (await node.outbound({ ...wrong, host: right.host })) === "outbound", {
      what: "the right namespace to be captured",
      ...SOON,
    });
    await until(async () => (await node.rules(wrong)) === "", { what: "the wrong one to be let go", ...SOON });
    await node.untilCaptured(wrong);
  });

  test("the namespace's file was taken over by another one", async () => {
    const [first, other] = [await node.captured(), await node.sandbox()];
    await unmount(first.netns);
    await run("mount", ["--bind", other.host.namespace.path, first.netns]);
    await until(() => node.events(first, "CaptureLost").some((text) => text.startsWith("WrongNamespace: ")), {
      what: "the Event",
      ...SOON,
    });
    await until(() => node.annotations(first)["ambient.istio.io/redirection"] === undefined, {
      what: "the annotation to go",
      ...SOON,
    });
    await unmount(first.netns);
    await run("mount", ["--bind", first.host.namespace.path, first.netns]);
    await node.untilCaptured(first);
  });

  test("what users write on pods is a claim, and goes when it is not true", async () => {
    const stranger = await node.sandbox();
    node.object(stranger, { labels: { "istio.io/dataplane-mode": "none" } });
    for (const value of ["enabled", "pending"]) {
      await node.annotate(stranger, { "ambient.istio.io/redirection": value });
      await until(() => node.annotations(stranger)["ambient.istio.io/redirection"] === undefined, {
        what: "the claim to go",
        ...SOON,
      });
    }
    assert.ok(node.events(stranger, "RedirectionNotConfirmed").length >= 2);
    assert.equal(await node.rules(stranger), "");
  });

  test("while the API is away a ztunnel that starts again gets its pods", async () => {
    const { StoreError } = await import("@tulle/store");
    await node.untilCaptured(pod);
    node.store.failing = new StoreError("UNAVAILABLE", "away");
    try {
      await node.ztunnel?.[Symbol.asyncDispose]();
      const { ready } = await node.connectZtunnel();
      assert.ok(ready && node.ztunnel?.serves(pod.uid));
      assert.ok(await captures());
    } finally {
      node.store.failing = undefined;
    }
    await node.untilCaptured(pod);
  });

  test("while the API is away pods are mended all the same", async () => {
    const { StoreError } = await import("@tulle/store");
    await node.untilCaptured(pod);
    node.store.failing = new StoreError("UNAVAILABLE", "away");
    try {
      await nft("flush", "ruleset");
      await until(captures, { what: "the repair", ...SOON });
    } finally {
      node.store.failing = undefined;
    }
    await node.untilCaptured(pod);
  });
});
