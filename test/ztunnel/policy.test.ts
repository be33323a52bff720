import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { listenIn, until } from "@tulle/lab";
import { ask, Call, echo } from "./call.ts";
import { type LabPod, MeshLab, POD_NAMESPACE } from "./mesh-lab.ts";

/** Authorization as applications and operators see it: who gets through, who is cut when it changes, and what is said about it. */

const PORT = 8080;
/**
 * A policy that is written must be in force within a second; the rest is for a machine with other things to do (the second
 * itself is held against medians on the cluster).
 */
const IN_FORCE_MS = 1000;
const SLACK_MS = 14_000;
/** How long a connection may wait for what the control plane has not said yet, and the same slack. */
const STATE_WAIT_MS = 5000;
/** A timer is not exact. */
const EARLY_MS = 500;

let mesh: MeshLab;
let server: LabPod;
let client: LabPod;
let other: LabPod;
let plain: LabPod;
const servers: AsyncDisposable[] = [];

before(async () => {
  mesh = await MeshLab.create();
  server = await mesh.pod("server", { node: "b" });
  client = await mesh.pod("client", { node: "a" });
  other = await mesh.pod("other", { node: "a" });
  plain = await mesh.pod("plain", { node: "a", enrolled: false });
  servers.push(await listenIn(server.host.namespace.path, { ip: server.host.v4, port: PORT }, echo));
  await mesh.reload();
});

afterEach(async () => {
  if (mesh.policies.length === 0 && server.options.policies === undefined) return;
  mesh.policies = [];
  server.options = { node: "b" };
  await mesh.reload();
});

after(async () => {
  for (const one of servers) await one[Symbol.asyncDispose]();
  await mesh.close();
});

type Match = Readonly<Record<string, readonly unknown[]>>;

function policy(name: string, action: "Allow" | "Deny", matches: readonly Match[], scope = "Namespace"): object {
  return { name, namespace: POD_NAMESPACE, scope, action, dryRun: false, rules: matches.map((match) => [[match]]) };
}

const from = (pod: LabPod): Match => ({
  principals: [{ Exact: `cluster.local/ns/${POD_NAMESPACE}/sa/${pod.name}` }],
});
/** What PeerAuthentication STRICT becomes: whoever has no identity. */
const STRICT = policy("strict", "Deny", [{ notPrincipals: [{ Presence: {} }] }]);

const to = () => ({ ip: server.host.v4, port: PORT });
const askFrom = (pod: LabPod, text?: string) => ask(pod.host.namespace.path, to(), text);
const openFrom = async (pod: LabPod) => {
  const call = await Call.open(pod.host.namespace.path, to());
  await call.say("hello");
  return call;
};

async function inForce(policies: readonly object[]): Promise<void> {
  mesh.policies = policies;
  await mesh.reload();
}

/** How long after the file was written a call was cut. */
async function cutAfterWriting(call: Call): Promise<number> {
  const start = performance.now();
  mesh.writeConfig();
  await call.over();
  return performance.now() - start;
}

test("ALLOW lets in whom it names; everyone else is reset, and the server's node says why", async () => {
  await inForce([policy("allow-client", "Allow", [from(client)])]);
  const labels = { reporter: "destination", response_flags: "DENY", destination_workload: "server" };
  const before = await mesh.metric("b", "istio_tcp_connections_closed_total", labels);
  assert.equal(await askFrom(client), "ok");
  assert.equal(await askFrom(other), "ECONNRESET");
  assert.equal(await askFrom(plain), "ECONNRESET");
  const text = "connection closed due to policy rejection: allow policies exist, but none allowed";
  await until(() => mesh.logLines("b", text, 'src.identity="spiffe://cluster.local/ns/demo/sa/other"').length === 1, {
    what: "the log line of the tunnel",
  });
  await until(() => mesh.logLines("b", text, 'src.workload="plain"').length === 1, {
    what: "the log line of the plaintext connection",
  });
  await until(async () => (await mesh.metric("b", "istio_tcp_connections_closed_total", labels)) === before + 2, {
    what: "both to be counted",
  });
  await until(() => mesh.logLines("a", "http status: 401", 'src.workload="other"').length === 1, {
    what: "the client's node to know that it was refused",
  });
});

test("DENY goes before ALLOW and is named in the log", async () => {
  await inForce([
    policy("allow-both", "Allow", [from(client), from(other)]),
    policy("deny-other", "Deny", [from(other)]),
  ]);
  assert.equal(await askFrom(client), "ok");
  assert.equal(await askFrom(other), "ECONNRESET");
  await until(() => mesh.logLines("b", "policy rejection: explicitly denied by: demo/deny-other").length === 1, {
    what: "the log to name the policy",
  });
});

test("a policy against peers without an identity refuses plaintext and nothing else", async () => {
  assert.equal(await askFrom(plain), "ok");
  await inForce([STRICT]);
  assert.equal(await askFrom(plain), "ECONNRESET");
  assert.equal(await askFrom(client), "ok");
  await until(() => mesh.logLines("b", "explicitly denied by: demo/strict", 'src.workload="plain"').length === 1, {
    what: "the log to name the policy",
  });
});

test("a policy that is written while connections run cuts those it forbids within a second, and no other", async () => {
  using mine = await openFrom(client);
  using cut = await openFrom(other);
  using clear = await openFrom(plain);
  const before = await mesh.metric("b", "tulle_connections_closed_by_policy_total");
  mesh.policies = [policy("deny-other", "Deny", [from(other)]), STRICT];
  const [tunnel, plaintext] = await Promise.all([cutAfterWriting(cut), clear.over().then(() => 0)]);
  assert.ok(tunnel + plaintext < IN_FORCE_MS + SLACK_MS, `cut after ${Math.round(tunnel)} ms`);
  assert.deepEqual([cut.end, clear.end], ["ECONNRESET", "ECONNRESET"]);
  for (const workload of ["other", "plain"]) {
    await until(
      () => mesh.logLines("b", "connection closed due to policy change", `src.workload="${workload}"`).length === 1,
      { what: `the log to say why ${workload} was cut` },
    );
  }
  assert.equal(await mesh.metric("b", "tulle_connections_closed_by_policy_total"), before + 2);
  await mine.say("still here");
});

test("a policy that a workload newly names cuts, too, plaintext included", async () => {
  await inForce([policy("nobody", "Allow", [{ namespaces: [{ Exact: "elsewhere" }] }], "WorkloadSelector")]);
  using tunnel = await openFrom(client);
  using clear = await openFrom(plain);
  server.options = { node: "b", policies: [`${POD_NAMESPACE}/nobody`] };
  const elapsed = await cutAfterWriting(tunnel);
  assert.ok(elapsed < IN_FORCE_MS + SLACK_MS, `cut after ${Math.round(elapsed)} ms`);
  assert.equal(await clear.over(), "ECONNRESET");
});

test("a policy that is named but missing: open connections stay, new ones wait and are denied", async () => {
  using tunnel = await openFrom(client);
  using clear = await openFrom(plain);
  server.options = { node: "b", policies: [`${POD_NAMESPACE}/later`] };
  await mesh.reload();
  const start = performance.now();
  const answers = await Promise.all([askFrom(client), askFrom(plain)]);
  const elapsed = performance.now() - start;
  assert.deepEqual(answers, ["ECONNRESET", "ECONNRESET"]);
  assert.ok(elapsed > STATE_WAIT_MS - EARLY_MS && elapsed < STATE_WAIT_MS + SLACK_MS, `${Math.round(elapsed)} ms`);
  await until(() => mesh.logLines("b", "policy rejection: ", "demo/later").length === 2, {
    what: "the log to name the missing policy",
  });
  assert.ok((await mesh.metric("b", "tulle_connections_refused_total", { reason: "missing_policy" })) >= 2);
  await Promise.all([tunnel.say("still here"), clear.say("still here")]);
});

test("a missing policy that arrives meanwhile decides the connections that wait for it", async () => {
  server.options = { node: "b", policies: [`${POD_NAMESPACE}/arrives`] };
  await mesh.reload();
  using allowed = await Call.open(client.host.namespace.path, to());
  using denied = await Call.open(other.host.namespace.path, to());
  const answer = allowed.say("waited for this");
  await until(async () => (await mesh.metric("b", "tulle_unauthenticated_connections")) === 0, {
    what: "both tunnels",
  });
  assert.deepEqual([allowed.end, denied.end], [undefined, undefined]);
  await inForce([policy("arrives", "Allow", [from(client)], "WorkloadSelector")]);
  await answer;
  assert.equal(await denied.over(), "ECONNRESET");
});

test("fifty rapid flips under load: while a denial is settled not one byte passes, and the end is consistent", async () => {
  // No two states are alike, so that each one that is waited for shows up as a change.
  const state = (flip: number) =>
    policy(`flip-${flip}`, "Deny", flip % 2 === 1 ? [from(client)] : [{ principals: [] }]);
  const load = new AbortController();
  using _ = { [Symbol.dispose]: () => load.abort() };
  let answered = 0;
  const caller = async () => {
    while (!load.signal.aborted) if ((await askFrom(client)) === "ok") answered++;
  };
  const callers = Promise.all([caller(), caller(), caller()]);
  using bystander = await openFrom(other);
  for (let flip = 1; flip <= 50; flip++) {
    mesh.policies = [state(flip)];
    // The proxy reads a file that was left alone for a moment: most flips come faster than that, every tenth settles.
    if (flip % 10 !== 9 && flip % 10 !== 0) mesh.writeConfig();
    else {
      await mesh.reload();
      if (flip % 2 === 1) {
        const before = answered;
        for (let i = 0; i < 10; i++) assert.equal(await askFrom(client, "forbidden"), "ECONNRESET");
        // One answer per caller may have been on its way when the flip was settled.
        assert.ok(answered <= before + 3, `${answered - before} answers while denied`);
      } else assert.equal(await askFrom(client), "ok");
    }
  }
  load.abort();
  await callers;
  assert.ok(answered > 0, "the load got through at times");
  await bystander.say("never touched");
  assert.equal(await mesh.metric("b", "tulle_handler_faults_total"), 0);
});
