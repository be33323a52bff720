import assert from "node:assert/strict";
import { once } from "node:events";
import { statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { connectFrom, run, until } from "@tulle/lab";
import type { KubeObject } from "@tulle/store";
import { Load } from "./load.ts";
import { LocalMesh, meshName, traces, Workspace } from "./local-mesh.ts";

/** The parts of a mesh: enrolment under load, what happens when one of them dies, and what outlives them all. */

const PARTS = ["istiod: 1 of 1", "istio-cni-node: 2 of 2", "ztunnel: 2 of 2"];
const AMBIENT = "labels: {istio.io/dataplane-mode: ambient}";
const SLOW = { timeoutMs: 60_000 };
/** What is asked for is two seconds; a machine that runs other tests beside this one gets more. */
const RECOVERY_MS = 60_000;
/** Of a request, and of an answer on an open connection, on the same machine. */
const REQUEST_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 20_000;

const deny = (name: string) => `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ${name}, namespace: probers}
spec: {action: DENY, rules: [{from: [{source: {namespaces: [tulle-ingress]}}]}]}
`;

let workspace: Workspace;
let mesh: LocalMesh;

before(async () => {
  workspace = Workspace.copyOf(fileURLToPath(new URL("fixtures/prober", import.meta.url)));
  mesh = await LocalMesh.start(workspace.path, { name: meshName("q") });
});

after(async () => {
  await mesh?.stop();
  workspace?.[Symbol.dispose]();
});

/** Whether a request on a connection of its own is answered. */
async function answers(path = "/ready"): Promise<boolean> {
  try {
    const answer = await fetch(mesh.url(8080, path), {
      headers: { connection: "close" },
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    });
    await answer.arrayBuffer();
    return answer.status === 200;
  } catch {
    return false;
  }
}

function rulesOf(pod: string): Promise<string> {
  return run("nft", ["list", "tables"], { namespace: mesh.namespaceOf(pod) });
}

async function podNamed(prefix: string): Promise<KubeObject | undefined> {
  return (await mesh.objects("pods")).find(({ metadata }) => metadata.name.startsWith(prefix));
}

async function kill(pod: string, signal: NodeJS.Signals): Promise<number> {
  const pid = await mesh.partOf(pod);
  assert.ok(pid !== undefined, `${pod} runs`);
  process.kill(pid, signal);
  return pid;
}

/** The pod's process is another one, and it is ready. */
async function isBack(pod: string, before: number): Promise<void> {
  const ready = async () => {
    const found = await podNamed(pod);
    const { conditions = [] } = (found?.status ?? {}) as { conditions?: readonly { type: string; status: string }[] };
    return conditions.some(({ type, status }) => type === "Ready" && status === "True");
  };
  await until(
    async () => {
      const now = await mesh.partOf(pod);
      return now !== undefined && now !== before && (await ready());
    },
    { what: `${pod} to be back`, ...SLOW },
  );
}

const lateYaml = (name: string) =>
  workspace
    .read("prober.yaml")
    .split("---")
    .filter((text) => /kind: Deployment[^]*namespace: probers/.test(text))
    .join("---")
    .replaceAll("name: prober, namespace", `name: ${name}, namespace`)
    .replaceAll("app: prober", `app: ${name}`);

test("tulle status, ztunnel-config and explain work on the local mesh", async () => {
  // A busy machine may miss a probe of a part that is fine.
  const status = await until(
    async () => {
      const said = await mesh.tulle("status");
      for (const part of PARTS) assert.ok(said.includes(`${part} ready`), said);
      return said;
    },
    { what: "the status to show all parts as ready", ...SLOW },
  );
  assert.match(status, /probers +1 +1\n/);
  const workloads = await mesh.tulle("ztunnel-config", "workload", "--workload-namespace", "probers");
  assert.match(workloads, /^probers +prober-\S+ .* HBONE\n/m);
  const explained = await mesh.tulle("explain", "from", "tulle-ingress/ingress", "to", "prober.probers:8080");
  assert.match(explained, /the connection is encrypted and allowed/);
});

test("no namespace label, no node: objects of one kind with their status, as kubectl would show them", async () => {
  assert.match(
    await mesh.tulle("get", "pods", "-n", "probers"),
    /^NAME +READY .*\nprober-\S+ +1\/1 +Running +enabled /,
  );
  const [service] = (await mesh.objects("services")).filter(({ metadata }) => metadata.name === "prober");
  const { clusterIPs = [] } = (service?.spec ?? {}) as { clusterIPs?: readonly string[] };
  assert.equal(clusterIPs.length, 2);
  const accounts = (await mesh.objects("serviceaccounts")).map(
    ({ metadata }) => `${metadata.namespace}/${metadata.name}`,
  );
  for (const name of ["plain/default", "probers/default", "probers/prober"]) assert.ok(accounts.includes(name), name);
  const [deployment] = (await mesh.objects("deployments")).filter(({ metadata }) => metadata.name === "plain");
  const { readyReplicas, updatedReplicas } = (deployment?.status ?? {}) as Record<string, number>;
  assert.deepEqual([readyReplicas, updatedReplicas], [2, 2]);
});

test("what of a policy is not in effect stands in its status", async () => {
  const text = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: paths, namespace: plain}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}
`;
  workspace.write("paths.yaml", text);
  const condition = async () => {
    const found = (await mesh.objects("authorizationpolicies")).find(({ metadata }) => metadata.name === "paths");
    const { conditions = [] } = (found?.status ?? {}) as { conditions?: readonly Record<string, string>[] };
    return conditions.find(({ type }) => type === "ZtunnelAccepted");
  };
  await until(async () => (await condition()) !== undefined, { what: "the condition" });
  assert.equal((await condition())?.reason, "UnsupportedValue");
  assert.match((await condition())?.message ?? "", /paths/);
  workspace.remove("paths.yaml");
});

test("a namespace leaves the mesh and comes back three times under load, and no request fails", async () => {
  const yaml = workspace.read("prober.yaml");
  const captured = async () => /tulle-pod/.test(await rulesOf("probers.prober"));
  await using load = new Load(mesh.url(8080, "/ready"), { clients: 2, pauseMs: 20 });
  for (let round = 0; round < 3; round++) {
    workspace.write("prober.yaml", yaml.replace(AMBIENT, "labels: {}"));
    // Kept connections that were captured go on until they end: the pod drains as long as there are some.
    const left = async () => (await podNamed("prober"))?.metadata.annotations?.["ambient.istio.io/redirection"];
    await until(async () => (await left()) === undefined, { what: "the pod to leave", ...SLOW });
    workspace.write("prober.yaml", yaml);
    await until(async () => (await left()) === "enabled" && (await captured()), {
      what: "the pod to be back",
      ...SLOW,
    });
  }
  await load.stop();
  assert.ok(load.requests > 50, `${load.requests} requests`);
  assert.deepEqual(load.failures, []);
});

test("a plaintext connection that is older than enrolment goes on, and is cut when STRICT forbids it", async () => {
  const yaml = workspace.read("prober.yaml");
  workspace.write("prober.yaml", yaml.replace(AMBIENT, "labels: {}"));
  await until(async () => !/tulle-pod/.test(await rulesOf("probers.prober")), { what: "the rules to go", ...SLOW });
  const to = { ip: await mesh.addressOf("probers.prober"), port: 8081 };
  const socket = await connectFrom(mesh.namespaceOf("plain.plain"), to);
  let closed = false;
  socket.on("close", () => (closed = true)).on("data", () => {});
  const ask = async () => {
    socket.write("GET /ready HTTP/1.1\r\nhost: x\r\n\r\n");
    await once(socket, "data", { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
  };
  await ask();
  workspace.write("prober.yaml", yaml);
  await until(async () => /tulle-pod/.test(await rulesOf("probers.prober")), {
    what: "the rules to come back",
    ...SLOW,
  });
  await ask();
  assert.equal(closed, false);
  const strict = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: probers}
spec: {mtls: {mode: STRICT}}
`;
  workspace.write("strict.yaml", strict);
  await until(() => closed, { what: "the connection to be cut" });
  workspace.remove("strict.yaml");
  assert.ok(await answers());
});

test("without its control plane the mesh goes on, and what changes meanwhile is in force when it is back", async () => {
  const pid = await kill("istiod-0", "SIGSTOP");
  workspace.write("deny.yaml", deny("meanwhile"));
  for (let requests = 0; requests < 20; requests++) assert.ok(await answers());
  process.kill(pid, "SIGKILL");
  await until(async () => !(await answers()), { what: "the policy to be in force", timeoutMs: RECOVERY_MS });
  await isBack("istiod-0", pid);
  workspace.remove("deny.yaml");
  await until(answers, { what: "the policy to be gone" });
});

test("without the node agents captured pods stay captured, and new ones wait", async () => {
  const agents = ["istio-cni-node-node-1", "istio-cni-node-node-2"];
  const pids = [];
  for (const agent of agents) pids.push(await kill(agent, "SIGSTOP"));
  workspace.write("late.yaml", lateYaml("late"));
  await until(() => mesh.namespaces().some((name) => name.includes("probers.late")), {
    what: "the new pod's namespace",
  });
  for (let requests = 0; requests < 20; requests++) assert.ok(await answers());
  assert.match(await rulesOf("probers.prober"), /tulle-pod/);
  assert.equal(await mesh.processOf("probers.late"), undefined);
  for (const pid of pids) process.kill(pid, "SIGKILL");
  await until(() => mesh.processOf("probers.late"), { what: "the new pod to start", ...SLOW });
  for (const [index, agent] of agents.entries()) await isBack(agent, pids[index] ?? 0);
  assert.match(await rulesOf("probers.late"), /tulle-pod/);
  assert.match(await rulesOf("probers.prober"), /tulle-pod/);
  workspace.remove("late.yaml");
  await until(() => !mesh.namespaces().some((name) => name.includes("probers.late")), { what: "it to go", ...SLOW });
});

test("a ztunnel that dies is back at once, and so is the traffic", async () => {
  for (const ztunnel of ["ztunnel-node-1", "ztunnel-node-2"]) {
    const pid = await kill(ztunnel, "SIGKILL");
    await until(answers, { what: `traffic after the end of ${ztunnel}`, timeoutMs: RECOVERY_MS, intervalMs: 20 });
    await isBack(ztunnel, pid);
    assert.ok(await answers());
  }
});

interface Remembered {
  readonly uid: string | undefined;
  readonly node: unknown;
  readonly ips: unknown;
}

async function remembered(): Promise<Record<string, Remembered>> {
  const pods = await mesh.objects("pods");
  const services = await mesh.objects("services");
  const of = ({ metadata, spec, status }: KubeObject): [string, Remembered] => {
    const { nodeName, clusterIPs } = (spec ?? {}) as { nodeName?: string; clusterIPs?: readonly string[] };
    const { podIPs } = (status ?? {}) as { podIPs?: unknown };
    return [`${metadata.namespace}/${metadata.name}`, { uid: metadata.uid, node: nodeName, ips: podIPs ?? clusterIPs }];
  };
  return Object.fromEntries([...pods, ...services].map(of));
}

test("tulle down ends a mesh and leaves its objects; the next start takes up pods and addresses as they were", async () => {
  const before = await remembered();
  assert.ok(Object.keys(before).length > 8);
  const owner = mesh.ownerPid;
  assert.equal(statSync(mesh.state).mode & 0o777, 0o700);
  assert.equal(statSync(join(mesh.state, "keys/token-key.json")).mode & 0o777, 0o600);
  await run(process.execPath, [LocalMesh.cli, "down", "--name", mesh.name], SLOW);
  await mesh.ended();
  assert.deepEqual(traces(mesh.name, owner), []);

  assert.match(await mesh.tulle("get", "pods", "-n", "probers"), /^NAME.*\nprober-\S+ +0\/1 +Pending +<none> /);
  await assert.rejects(mesh.tulle("ztunnel-config", "workload"), /no ztunnel runs/);

  mesh = await LocalMesh.start(workspace.path, { name: mesh.name });
  assert.deepEqual(await remembered(), before);
  assert.ok(await answers());

  await run(process.execPath, [LocalMesh.cli, "down", "--name", mesh.name, "--purge"], SLOW);
  await mesh.ended();
  await assert.rejects(mesh.tulle("get", "pods"), new RegExp(`there is no local mesh ${mesh.name}`));
});
