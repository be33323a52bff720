import { ECHO_PORTS, ENROL, echo, isCaptured, Mesh, refusalOf, TestCluster } from "../test/cluster/src/index.ts";
import { killContainer } from "../test/cluster/src/outage.ts";
import { DATAPLANE_MODE_LABEL, REDIRECTION_ANNOTATION, sleep } from "@tulle/base";
import { until } from "@tulle/lab";

/**
 * What users of a cluster wait for: `node bench/cluster.ts [ROUNDS]` brings up the tests' Kubernetes, installs the mesh, and
 * measures from kubectl's return, or from the kill, until it is felt. TULLE_CLUSTER_ATTACH=name takes a cluster that runs.
 */

const ROUNDS = Number(process.argv[2] ?? 11);
const NAMESPACE = "measured-waits";
const POLL = { intervalMs: 5, timeoutMs: 60_000 };
const RATE = 200;

const attach = process.env.TULLE_CLUSTER_ATTACH;
const cluster = attach ? TestCluster.attach(attach) : await TestCluster.up();
const mesh = new Mesh(cluster);
const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } };
const results = new Map<string, number[]>();
try {
  await prepare();
  for (let i = 0; i < ROUNDS; i++) {
    await policies();
    await labels();
  }
  for (let i = 0; i < Math.min(ROUNDS, 5); i++) await recovery();
  print();
} finally {
  await cluster.delete(namespace);
  await cluster.down();
}

async function prepare(): Promise<void> {
  await mesh.install();
  await cluster.apply(namespace);
  await cluster.kubectl(["label", "namespace", NAMESPACE, ENROL]);
  const outside = { labels: { [DATAPLANE_MODE_LABEL]: "none" } };
  await cluster.apply([
    ...echo({ name: "server", namespace: NAMESPACE, node: 2 }),
    ...echo({ name: "client", namespace: NAMESPACE, node: 1 }),
    ...echo({ name: "outsider", namespace: NAMESPACE, node: 1, ...outside }),
  ]);
  for (const name of ["server", "client", "outsider"]) await cluster.rollout(`deploy/${name}`, NAMESPACE);
  for (const name of ["server", "client"]) await mesh.waitForCaptured(await reference(name));
}

async function policies(): Promise<void> {
  const metadata = { name: "measured", namespace: NAMESPACE };
  const apiVersion = "security.istio.io/v1";
  const principals = [`cluster.local/ns/${NAMESPACE}/sa/client`];
  const deny = { action: "DENY", rules: [{ from: [{ source: { principals } }] }] };
  for (const [client, policy] of [
    ["client", { apiVersion, kind: "AuthorizationPolicy", metadata, spec: deny }],
    ["outsider", { apiVersion, kind: "PeerAuthentication", metadata, spec: { mtls: { mode: "STRICT" } } }],
  ] as const) {
    const options = { client: await reference(client), server: "server", change: () => cluster.apply(policy) };
    const { newMs, openMs } = await refusalOf(cluster, options);
    note(`${policy.kind} applied: first new connection refused`, newMs);
    note(`${policy.kind} applied: open connection cut`, openMs);
    await cluster.delete(policy);
    await cluster.waitForEndpoint({ from: options.client, url: "http://server/", answer: /^200 / });
  }
}

async function labels(): Promise<void> {
  const pod = await reference("server");
  const [where, name = ""] = pod.split("/");
  const label = (value: string) =>
    cluster.kubectl(["label", "pod", "-n", where ?? "", name, `${DATAPLANE_MODE_LABEL}${value}`]);
  await label("=none");
  let start = performance.now();
  await until(async () => (await cluster.pod(pod)).metadata.annotations?.[REDIRECTION_ANNOTATION] === undefined, {
    ...POLL,
    what: "the pod to leave",
  });
  note("label taken away: the pod's annotation gone", performance.now() - start);
  await sleep(500);
  await label("-");
  start = performance.now();
  await until(async () => isCaptured(await cluster.pod(pod)), { ...POLL, what: "the pod to be captured" });
  note("label set on a running pod: captured and proven", performance.now() - start);
}

async function recovery(): Promise<void> {
  const url = `http://server:${ECHO_PORTS.http}/`;
  await using load = await cluster.startLoad(await reference("client"), { url, rate: RATE, newShare: 1 });
  await sleep(200);
  const before = load.failures.length;
  const ztunnel = await mesh.ztunnel(2);
  killContainer(cluster, ztunnel);
  const killed = Date.now();
  await until(async () => load.failures.length > before, { ...POLL, what: "the kill to be felt" });
  // Over when nothing has failed for a while.
  await until(async () => Date.now() - (load.failures.at(-1)?.time ?? 0) > 2000, { ...POLL, what: "the recovery" });
  note("ztunnel killed: last new connection that failed", (load.failures.at(-1)?.time ?? 0) - killed);
  await load.stop();
  // Kubelet waits longer after each crash: the next round has a new pod.
  await cluster.kubectl(["delete", "pod", ztunnel.metadata.name, "-n", ztunnel.metadata.namespace]);
  await cluster.rollout("ds/ztunnel", ztunnel.metadata.namespace);
}

async function reference(app: string): Promise<string> {
  const [pod] = await cluster.pods(`app=${app}`, NAMESPACE);
  if (pod === undefined) throw new Error(`${app} has no pod`);
  return `${NAMESPACE}/${pod.metadata.name}`;
}

function note(what: string, ms: number): void {
  results.set(what, [...(results.get(what) ?? []), ms]);
}

function print(): void {
  console.log("| from | median | most | runs |\n| --- | --: | --: | --: |");
  for (const [what, all] of results) {
    const sorted = all.toSorted((a, b) => a - b).map(Math.round);
    console.log(`| ${what} | ${sorted[sorted.length >> 1]} ms | ${sorted.at(-1)} ms | ${sorted.length} |`);
  }
}
