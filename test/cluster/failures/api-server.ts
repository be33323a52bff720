import assert from "node:assert/strict";
import { after, before } from "node:test";
import { run, until } from "@tulle/lab";
import { NetNamespace, TcpState, tcpSockets } from "@tulle/linux";
import type { BridgeCapture } from "../src/bridge-capture.ts";
import { type PodObject, processesOf } from "../src/containers.ts";
import type { HeldConnection } from "../src/held-connection.ts";
import type { Load } from "../src/load.ts";
import { killContainer, killPod, PodWatch } from "../src/outage.ts";
import { assertHeld, assertNoneFailed, type Cell, type GetScene, undo } from "./row.ts";
import { nameOf } from "./scene.ts";

/** The API server; etcd, kubelets and the mesh's parts run on. */
export function apiServerRow(scene: GetScene, cell: Cell): void {
  let wire: BridgeCapture;
  let held: HeldConnection;
  let load: Load;
  let spare: PodObject;
  let away = false;

  const back = async () => {
    if (away) await scene().cluster.apiserverStart();
    away = false;
  };

  before(async () => {
    await scene().newPod({ name: "spare", node: 1 });
    spare = await scene().running("spare");
    await scene().refresh();
    wire = await scene().watchWire();
    held = await scene().hold("far");
    load = await scene().requests("far");
    away = true;
    await scene().cluster.apiserverStop();
  });
  after(() =>
    undo([
      () => scene().removePod("spare"),
      () => scene().allow("far"),
      () => wire?.[Symbol.asyncDispose](),
      () => load?.[Symbol.asyncDispose](),
      () => held?.[Symbol.asyncDispose](),
      back,
    ]),
  );

  cell("new pod", async () => {
    const { cluster, near } = scene();
    killContainer(cluster, near);
    // This one's sandbox is made anew: the plugin asks the agent, which knows the pod.
    const watch = new PodWatch(cluster, spare);
    killPod(cluster, spare);
    await until(() => watch.running.length > 1, { what: "the sandbox and container to run again", timeoutMs: 120_000 });
    await scene().served(scene().url(near));
    // Nothing of it runs in a namespace that is not captured: its container waits for the plugin.
    const [container = ""] = watch.running;
    const [pid] = processesOf(container);
    assert.match(
      await run("nsenter", [`--target=${pid}`, "--net", "--", "nft", "list", "ruleset"]),
      /redirect to :15001/,
    );
    using namespace = NetNamespace.open(`/proc/${pid}/ns/net`);
    const ports = new Set(tcpSockets(namespace, [TcpState.LISTEN]).map(({ local }) => local.port));
    for (const port of [15001, 15006, 15008]) assert.ok(ports.has(port), `nobody listens on ${port}`);
    await scene().policyHolds();
    await assert.rejects(cluster.kubectl(["get", "nodes", "--request-timeout=2s"]));

    await back();
    const again = await scene().running("spare");
    assert.equal(again.metadata.uid, spare.metadata.uid);
    await until(async () => (await scene().running("spare")).status.podIP !== spare.status.podIP, {
      what: "the new address",
      timeoutMs: 60_000,
    });
    const renewed = await scene().running("spare");
    // Until the control plane has seen it, its address is any address to the caller's ztunnel.
    await until(async () => JSON.stringify(await scene().mesh.configDump(1)).includes(`"${renewed.status.podIP}"`), {
      what: "the mesh to know the new address",
      timeoutMs: 60_000,
    });
    await scene().served(scene().url(renewed));
    await scene().served(scene().url("far"), renewed);
    await scene().refresh();
    assert.equal(nameOf(scene().near), nameOf(near));
    assert.equal(scene().near.status.podIP, near.status.podIP);
  });

  cell("old connections", () => assertHeld(held));

  cell("new connections", async (t) => {
    await assertNoneFailed(load, t);
    await scene().nothingInPlaintext(wire);
  });

  cell("policy change", async (t) => {
    await scene().policyHolds();
    await scene().deny("far");
    t.diagnostic(`seen after ${Math.round(await scene().takesEffect("far", true))} ms`);
    await scene().allow("far");
    await scene().takesEffect("far", false);
  });
}
