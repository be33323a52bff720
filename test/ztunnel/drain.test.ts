import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { listenIn, until } from "@tulle/lab";
import { ask, Call, echo } from "./call.ts";
import { type LabPod, MeshLab } from "./mesh-lab.ts";

/** How ztunnel ends and comes back: gracefully, beside its successor, or killed. */

const PORT = 8080;
/** Long enough to see before it that new connections are refused and old ones go on, on a machine with other things to do. */
const DEADLINE_MS = 10_000;
/** For the same machine. */
const SLACK_MS = 10_000;
/** The same, for a process that starts while the tests before and after it use every core. */
const START_SLACK_MS = 30_000;
/** Between two calls of a load, so that the load does not starve what it is meant to watch. */
const PACE_MS = 5;
/** Traffic must flow again this soon after a new process was started. */
const RECOVERY_MS = 2000;
const SECRET = "not for the wire";

let mesh: MeshLab;
let server: LabPod;
let local: LabPod;
let remote: LabPod;
const servers: AsyncDisposable[] = [];

before(async () => {
  mesh = await MeshLab.create({ environment: { CONNECTION_TERMINATION_DEADLINE: `${DEADLINE_MS}ms` } });
  server = await mesh.pod("server", { node: "b" });
  local = await mesh.pod("local", { node: "b" });
  remote = await mesh.pod("remote", { node: "a" });
  servers.push(await listenIn(server.host.namespace.path, { ip: server.host.v4, port: PORT }, echo));
  await mesh.reload();
});

after(async () => {
  for (const one of servers) await one[Symbol.asyncDispose]();
  await mesh.close();
});

const to = () => ({ ip: server.host.v4, port: PORT });
const openFrom = async (pod: LabPod) => {
  const call = await Call.open(pod.host.namespace.path, to());
  await call.say("hello");
  return call;
};

/** Asks all the time until `stop`; returns every answer but `ok`. */
function keepAsking(pod: LabPod): Disposable & { stop(): Promise<string[]>; readonly answered: number } {
  const failures: string[] = [];
  let answered = 0;
  const stopped = new AbortController();
  const done = (async () => {
    while (!stopped.signal.aborted) {
      const answer = await ask(pod.host.namespace.path, to(), SECRET);
      if (answer === "ok") answered++;
      else failures.push(answer);
      await setTimeout(PACE_MS);
    }
  })();
  return {
    get answered() {
      return answered;
    },
    async stop() {
      stopped.abort();
      await done;
      return failures;
    },
    [Symbol.dispose]() {
      stopped.abort();
    },
  };
}

for (const [name, end] of [
  ["SIGTERM", async () => mesh.node("b").ztunnel.signal("SIGTERM")],
  [
    "POST /quitquitquit",
    async () => {
      const answer = await mesh.request("b", 15_000, "POST", "/quitquitquit");
      assert.deepEqual([answer.status, answer.body], [200, "shutdown now\n"]);
    },
  ],
] as const) {
  test(`after ${name}, open connections live on until the deadline, new ones are refused, and the exit code is 0`, async () => {
    const { ztunnel } = mesh.node("b");
    using inbound = await openFrom(remote);
    using outbound = await openFrom(local);
    const start = performance.now();
    await end();
    await ztunnel.waitForOutput(/shutting down/);
    await until(async () => (await ask(remote.host.namespace.path, to())) !== "ok", { what: "new ones to be refused" });
    await inbound.say("still here");
    await outbound.say("and here");
    await Promise.all([inbound.over(DEADLINE_MS + SLACK_MS), outbound.over(DEADLINE_MS + SLACK_MS)]);
    const elapsed = performance.now() - start;
    assert.ok(elapsed > DEADLINE_MS - 100 && elapsed < DEADLINE_MS + SLACK_MS, `cut after ${Math.round(elapsed)} ms`);
    assert.deepEqual(await ztunnel.ended, { code: 0, signal: null });
    assert.match(ztunnel.output, /connection failed to drain within the timeout/);
    await mesh.restart("b");
    assert.equal(await ask(remote.host.namespace.path, to()), "ok");
  });
}

test("without connections a ztunnel that is told to end does not wait for the deadline", async () => {
  const { ztunnel } = mesh.node("b");
  const start = performance.now();
  ztunnel.signal("SIGTERM");
  assert.deepEqual(await ztunnel.ended, { code: 0, signal: null });
  assert.ok(performance.now() - start < DEADLINE_MS, "it waited");
  await mesh.restart("b");
});

test("during a rolling restart every new connection succeeds, in both directions", async () => {
  using inbound = keepAsking(remote);
  using outbound = keepAsking(local);
  using inFlight = await openFrom(remote);
  const old = await mesh.replace("b");
  old.signal("SIGTERM");
  await old.waitForOutput(/shutting down/);
  await inFlight.say("served by the old one to its end");
  assert.deepEqual(await old.ended, { code: 0, signal: null });
  const [before, beforeOut] = [inbound.answered, outbound.answered];
  await until(() => inbound.answered > before + 10 && outbound.answered > beforeOut + 10, {
    what: "some more answers",
  });
  assert.deepEqual([await inbound.stop(), await outbound.stop()], [[], []]);
  assert.ok(inbound.answered > 20 && outbound.answered > 20);
});

test("killed, no plaintext leaves and connections are refused; started again, traffic is back soon", async () => {
  const { ztunnel } = mesh.node("b");
  await using capture = await mesh.lab.fabric.capture(mesh.lab.bridge, "tcp");
  using calls = keepAsking(local);
  using cut = await openFrom(remote);
  ztunnel.signal("SIGKILL");
  await ztunnel.ended;
  assert.notEqual(await cut.over(), undefined);
  for (let i = 0; i < 20; i++) {
    assert.notEqual(await ask(local.host.namespace.path, to(), SECRET), "ok");
    assert.notEqual(await ask(remote.host.namespace.path, to(), SECRET), "ok");
  }
  const start = performance.now();
  const restarted = mesh.restart("b");
  await until(async () => (await ask(remote.host.namespace.path, to(), SECRET)) === "ok", {
    what: "traffic",
    timeoutMs: RECOVERY_MS + START_SLACK_MS,
  });
  const elapsed = performance.now() - start;
  await restarted;
  assert.ok(elapsed < RECOVERY_MS + START_SLACK_MS, `recovered after ${Math.round(elapsed)} ms`);
  const before = calls.answered;
  await until(() => calls.answered > before, { what: "an answer in the other direction" });
  const failures = await calls.stop();
  assert.ok(failures.length > 0, "nothing was refused while it was down");
  const frames = await capture.stop();
  assert.ok(frames.length > 0, "the capture saw nothing");
  assert.ok(!frames.some(({ payload }) => Buffer.from(payload).includes(SECRET)), "plaintext has left");
});
