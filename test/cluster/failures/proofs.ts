import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { before, describe, test } from "node:test";
import { CAPTURED_CONDITION, REDIRECTION_ANNOTATION } from "@tulle/base";
import { run, until } from "@tulle/lab";
import { destroyTcpSockets, NetNamespace, TcpState, tcpSockets } from "@tulle/linux";
import { containerPid } from "../src/containers.ts";
import type { GetScene } from "./row.ts";
import { FAILING, nameOf, type Scene } from "./scene.ts";

/** Pods are proven every second, and mended at once; the rest is for a busy machine. */
const MENDED_LIMIT_MS = 30_000;
const REDIRECT_OUT = /redirect to :15001/;

/** Capture is broken on a live pod (near) in every way that a cluster can show: told by kubectl, and mended. */
export function proofTests(scene: GetScene): void {
  describe("a pod that is no longer captured", () => {
    before(() => scene().refresh());

    /** The condition as kubectl shows it, from before the fault on. */
    const breaks = async (reason: string, fault: () => Promise<unknown>, undo?: () => Promise<unknown>) => {
      const { near } = scene();
      const started = Date.now();
      const told = (type: string) => countEvents(scene(), type);
      const [lost, restored] = [await told("CaptureLost"), await told("CaptureRestored")];
      await using watch = await ConditionWatch.start(scene());
      await fault();
      await until(() => watch.seen.some((line) => line === `False ${reason}`), {
        what: `the condition ${reason}`,
        timeoutMs: MENDED_LIMIT_MS,
      });
      await undo?.();
      await until(() => watch.seen.at(-1) === "True Captured", { what: "the repair", timeoutMs: MENDED_LIMIT_MS });
      const took = Date.now() - started;
      const isTold = () => scene().hasEvent(near, "CaptureLost", new RegExp(`^${reason}: `));
      await until(async () => (await told("CaptureLost")) > lost && (await isTold()), {
        what: `an Event CaptureLost for the reason ${reason}`,
        timeoutMs: MENDED_LIMIT_MS,
      });
      if (undo === undefined) {
        await until(async () => (await told("CaptureRestored")) > restored, {
          what: "an Event CaptureRestored",
          timeoutMs: MENDED_LIMIT_MS,
        });
      }
      assert.match(await inPod(scene(), ["nft", "list", "ruleset"]), REDIRECT_OUT);
      await scene().mesh.waitForCaptured(nameOf(near));
      await scene().served(scene().url("near"));
      await scene().served(scene().url("far"), near);
      return took;
    };

    test("its rules flushed", async (t) => {
      const took = await breaks("RulesChanged", () => inPod(scene(), ["nft", "flush", "ruleset"]));
      t.diagnostic(`told and mended after ${took} ms`);
    });

    for (const [what, verb, ...instead] of [
      ["changed", "replace", "tcp", "flags", "syn", "accept"],
      ["taken away", "delete"],
    ] as const) {
      test(`one rule ${what}`, async (t) => {
        const took = await breaks("RulesChanged", async () => {
          const rule = findRule(await inPod(scene(), ["nft", "-a", "list", "ruleset"]), REDIRECT_OUT);
          await inPod(scene(), ["nft", verb, "rule", ...rule, ...instead]);
        });
        t.diagnostic(`told and mended after ${took} ms`);
      });
    }

    test("one listener closed", async (t) => {
      const took = await breaks("ListenersMissing", () => closeListeners(scene(), [15001]));
      t.diagnostic(`told and mended after ${took} ms`);
    });

    test("no listener left: ztunnel has lost it", async (t) => {
      const took = await breaks("ListenersMissing", () => closeListeners(scene(), [15001, 15006, 15008, 15053]));
      t.diagnostic(`told and mended after ${took} ms`);
    });

    test("its namespace's file shows another namespace: let go of, and found again", async () => {
      const [own, other] = [await namespaceFile(scene(), "near"), await namespaceFile(scene(), "caller")];
      await breaks(
        "WrongNamespace",
        () => scene().cluster.nodeExec(1, ["mount", "--bind", other, own]),
        () => scene().cluster.nodeExec(1, ["umount", own]),
      );
    });

    test("a claim of a pod outside of the mesh goes within seconds", async (t) => {
      const outside = await scene().newPod({ name: "claims", node: 1, labels: { "istio.io/dataplane-mode": "none" } });
      try {
        await scene().cluster.rollout("deploy/claims", FAILING);
        const name = outside.metadata.name;
        const start = Date.now();
        await scene().cluster.kubectl(["annotate", "pod", name, "-n", FAILING, `${REDIRECTION_ANNOTATION}=enabled`]);
        await until(
          async () => {
            const { metadata } = await scene().cluster.pod(`${FAILING}/${name}`);
            return metadata.annotations?.[REDIRECTION_ANNOTATION] === undefined;
          },
          { what: "the claim to go", timeoutMs: MENDED_LIMIT_MS, intervalMs: 50 },
        );
        t.diagnostic(`gone ${Date.now() - start} ms after kubectl was started`);
        await until(() => scene().hasEvent(outside, "RedirectionNotConfirmed", /has not confirmed it/), {
          what: "the Event",
        });
      } finally {
        await scene().removePod("claims");
      }
    });
  });
}

/** `kubectl get pod near --watch`: status and reason of the condition, each time something changes. */
class ConditionWatch implements AsyncDisposable {
  readonly seen: string[] = [];
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#closed = new Promise((resolve) => child.on("close", resolve));
    if (child.stdout !== null)
      createInterface({ input: child.stdout }).on("line", (line) => this.seen.push(line.trim().replace(/ +/, " ")));
  }

  static async start({ cluster, near }: Scene): Promise<ConditionWatch> {
    const condition = `.status.conditions[?(@.type=="${CAPTURED_CONDITION}")]`;
    const columns = `custom-columns=STATUS:${condition}.status,REASON:${condition}.reason`;
    const kubectl = join(cluster.cluster.settings.folder, "bin", "kubectl");
    const args = ["get", "pod", near.metadata.name, "-n", FAILING, "--watch", "--no-headers", "-o", columns];
    const environment = { ...process.env, KUBECONFIG: cluster.kubeconfig };
    const watch = new ConditionWatch(spawn(kubectl, args, { env: environment, stdio: ["ignore", "pipe", "ignore"] }));
    await until(() => watch.seen.at(-1) === "True Captured", {
      what: "the pod to be captured at first",
      timeoutMs: 30_000,
    });
    return watch;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill();
    await this.#closed;
  }
}

/** How often an Event of a kind came; kubectl shows the same one's count. */
async function countEvents({ cluster, near }: Scene, reason: string): Promise<number> {
  const path = `/api/v1/namespaces/${FAILING}/events?fieldSelector=involvedObject.name=${near.metadata.name}`;
  const list = await cluster.get<{ items: EventObject[] }>(path);
  return (list?.items ?? [])
    .filter((event) => event.reason === reason)
    .reduce((sum, { count, series }) => sum + (series?.count ?? count ?? 1), 0);
}

interface EventObject {
  readonly reason: string;
  readonly count?: number;
  readonly series?: { readonly count: number };
}

/** Runs a program of this machine in the network namespace of near. */
function inPod({ cluster, near }: Scene, command: readonly string[]): Promise<string> {
  const pid = containerPid(cluster.cluster.settings, near);
  return run("nsenter", [`--target=${pid}`, "--net", "--", ...command]);
}

/** Family, table, chain, `handle` and number of the first rule that looks so, in the output of `nft -a list ruleset`. */
function findRule(ruleset: string, like: RegExp): string[] {
  let [table, chain]: [string[], string] = [[], ""];
  for (const line of ruleset.split("\n")) {
    table = /^table (\w+ \S+) \{/.exec(line)?.[1]?.split(" ") ?? table;
    chain = /^\s+chain (\S+) \{/.exec(line)?.[1] ?? chain;
    const handle = like.test(line) ? /# handle (\d+)/.exec(line)?.[1] : undefined;
    if (handle !== undefined) return [...table, chain, "handle", handle];
  }
  throw new Error(`no rule looks like ${like}:\n${ruleset}`);
}

/** As the kernel closes sockets for an administrator (`ss -K`): ztunnel's are gone without its doing. */
async function closeListeners({ cluster, near }: Scene, ports: readonly number[]): Promise<void> {
  using namespace = NetNamespace.open(`/proc/${containerPid(cluster.cluster.settings, near)}/ns/net`);
  const listeners = () => tcpSockets(namespace, [TcpState.LISTEN]).filter(({ local }) => ports.includes(local.port));
  const found = listeners();
  assert.deepEqual(new Set(found.map(({ local }) => local.port)), new Set(ports));
  // Of several on one port (a thread has one each) the kernel closes one at a time, and only the one that it would choose.
  for (let i = 0; i < found.length && listeners().length > 0; i++) destroyTcpSockets(namespace, listeners());
  assert.deepEqual(listeners(), []);
}

/** The file by which the runtime of n1 calls the namespace of a pod. */
async function namespaceFile(scene: Scene, name: "near" | "caller"): Promise<string> {
  const { cluster } = scene;
  const key = await run("stat", ["-Lc", "%i", `/proc/${containerPid(cluster.cluster.settings, scene[name])}/ns/net`]);
  const listed = await cluster.nodeExec(1, ["bash", "-c", 'stat -c "%i %n" /run/netns/*']);
  const found = listed.split("\n").find((line) => line.startsWith(`${key.trim()} `));
  return found?.split(" ")[1] ?? assert.fail(`no file stands for the namespace of ${name}:\n${listed}`);
}
