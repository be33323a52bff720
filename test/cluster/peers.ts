import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { DATAPLANE_MODE_LABEL, REDIRECTION_ANNOTATION } from "@tulle/base";
import { run, until } from "@tulle/lab";
import { differences, type ToldState } from "./peers/differences.ts";
import { artifact, ISTIO } from "./src/artifacts.ts";
import { build } from "./src/build.ts";
import { type AccessLogLine, ECHO_PORTS, Mesh, MESH_NAMESPACE, type PodObject, TestCluster } from "./src/index.ts";

/**
 * Istio's own programs, built from its module without a change, against ours: `npm run test:peers`. Not a part of
 * `npm test`: to build them takes as long as all the rest. istioctl asks our control plane and ztunnels; then istiod takes
 * the place of our control plane, and our node agents and ztunnels, which notice nothing, do their work by what it says.
 * Ours comes back, and what both said of the same objects is compared. At the end Istio's node agent takes the place of ours.
 */
const ENTRIES = "workloads Kubernetes/networking.istio.io/ServiceEntry/peers";
const FOLDER = join(import.meta.dirname, "peers");
const NAMESPACE = "peers";
const ISTIOCTL_LIMIT_MS = 60_000;
const INSTALL_LIMIT_MS = 180_000;
/** Until the new control plane has been found and all of it is told. */
const TOLD_LIMIT_MS = 60_000;

/** Where ours means to say something else: istiod's answer first. */
const MEANT: readonly string[] = [
  // Endpoints without labels match no selector.
  ...["dns-of-its-host/host.example.com", "dns/203.0.113.30", "dns/one.example.com", "static/203.0.113.20"].map(
    (entry) => `${ENTRIES}/${entry} authorizationPolicies: ["peers/every-field"], ours: nothing`,
  ),
  `${ENTRIES}/wildcard/*.wild.example.com authorizationPolicies: ["peers/every-field"], ours: nothing`,
  // A waypoint that is not there means refusal, not a way past it.
  'services strict/nowhere.strict.svc.cluster.local waypoint: nothing, ours: {"destination":"strict/missing.strict.waypoint.invalid","hboneMtlsPort":15008}',
  // Dry run needs no flag.
  'policies peers/dry-run: nothing, ours: {"action":"Deny","dryRun":true,"name":"dry-run","namespace":"peers","rules":[[[{"namespaces":[{"Exact":"bad"}]}]]],"scope":"Namespace"}',
  // A rule of which nothing is left denies everybody; ztunnel passes over an empty match.
  'policies strict/deny-http rules: [[[{"destinationPorts":[80]}],[{"namespaces":[{"Exact":"z"}]}]],[[{}]]], ours: [[[{"destinationPorts":[80]}],[{"namespaces":[{"Exact":"z"}]}]],[]]',
];

let running: TestCluster | undefined;

before(async () => {
  await build([ISTIO]);
  const attach = process.env.TULLE_CLUSTER_ATTACH;
  running = attach ? TestCluster.attach(attach) : await TestCluster.up();
  await mesh().install();
  await cluster().kubectl(["apply", "-f", join(FOLDER, "mesh.yaml")]);
  for (const name of ["shop", "buyer"]) await cluster().rollout(`deploy/${name}`, NAMESPACE);
  await cluster().rollout("deploy/outside", "strict");
  await mesh().waitForCaptured(`${NAMESPACE}/${(await podOf("buyer")).metadata.name}`);
});

after(async () => {
  await running?.down();
});

function cluster(): TestCluster {
  if (running === undefined) throw new Error("the cluster is used outside of a test");
  return running;
}

function mesh(): Mesh {
  return new Mesh(cluster());
}

function istioctl(...args: readonly string[]): Promise<string> {
  return run(artifact("istio", "istioctl"), args, {
    timeoutMs: ISTIOCTL_LIMIT_MS,
    environment: { KUBECONFIG: cluster().kubeconfig },
  });
}

async function podOf(app: string): Promise<PodObject> {
  const [pod] = await cluster().pods(`app=${app}`, NAMESPACE);
  return pod ?? assert.fail(`there is no pod of ${app}`);
}

/** What buyer gets from the service shop. */
async function buy(): Promise<string> {
  const url = `http://shop.${NAMESPACE}/`;
  return cluster().execDirectly(await podOf("buyer"), ["/labbox", "get", "-timeout=5s", url]);
}

describe("istioctl", () => {
  test("knows the versions of our control plane and ztunnels", async () => {
    const { clientVersion } = JSON.parse(await mesh().tulle(["version", "--no-remote", "-o", "json"])) as Versions;
    const text = await istioctl("version");
    assert.ok(text.includes(`control plane version: ${clientVersion.version}\n`), text);
    assert.ok(text.includes(`data plane version: ${clientVersion.version} (2 proxies)\n`), text);
  });

  test("sees by proxy-status that both ztunnels are told everything", async () => {
    await until(
      async () => {
        const [, ...rows] = rowsOf(await istioctl("proxy-status", "-v", "1"));
        return rows.length === 2 && rows.every((row) => row.filter((cell) => cell === "SYNCED").length === 2);
      },
      { what: "both ztunnels to be synced", timeoutMs: 30_000 },
    );
  });

  test("reads the debug pages by internal-debug", async () => {
    const proxies = JSON.parse(await istioctl("experimental", "internal-debug", "syncz")) as { proxy: string }[];
    assert.equal(proxies.length, 2);
    assert.match(await istioctl("experimental", "internal-debug", "nothing"), /list, please check all supported/);
  });

  test("reads what ztunnel knows by ztunnel-config, and sets its log's level", async () => {
    const row = async (kind: string, name: string, ...args: string[]) => {
      const rows = rowsOf(await istioctl("ztunnel-config", kind, ...args));
      return rows.find((cells) => cells.includes(name)) ?? assert.fail(`${kind} has no row of ${name}`);
    };
    const { metadata, spec, status } = await podOf("buyer");
    const { nodeName = "" } = spec;
    const workload = await row("workload", metadata.name);
    assert.equal(workload[0], NAMESPACE);
    assert.equal(workload[2]?.split(",")[0], status.podIP);
    assert.deepEqual(workload.slice(3), [nodeName, "None", "HBONE"]);
    assert.deepEqual((await row("service", "shop")).slice(3), ["None", "3/3"]);
    assert.deepEqual(await row("policy", "every-field"), [NAMESPACE, "every-field", "Allow", "WorkloadSelector"]);
    const identity = `spiffe://cluster.local/ns/${NAMESPACE}/sa/default`;
    const certificate = await row("certificate", identity, "--node", nodeName);
    assert.deepEqual(certificate.slice(1, 4), ["Leaf", "Available", "true"]);

    const address = `${(await podOf("shop")).status.podIP}:${ECHO_PORTS.tcp}`;
    await using _ = await cluster().holdConnection(await podOf("buyer"), { address });
    const connection = await row("connections", `${metadata.name}.${NAMESPACE}`, "--node", nodeName);
    assert.deepEqual([connection[1], connection.at(-1)], ["Outbound", "HBONE"]);

    const { metadata: ztunnel } = await mesh().ztunnel(1);
    assert.match(await istioctl("ztunnel-config", "log", ztunnel.name, "--level", "debug"), /level is .*debug/);
    assert.match(await istioctl("ztunnel-config", "log", ztunnel.name, "--reset"), /level is .*info/);
  });

  test("finds the cluster fit", async () => {
    await istioctl("experimental", "precheck");
  });
});

let theirs: ToldState;

describe("istiod in the place of our control plane", () => {
  before(async () => {
    await cluster().load(artifact("istio", "istio.tar"));
    await cluster().kubectl(["delete", "deploy", "istiod", "-n", MESH_NAMESPACE]);
    await cluster().kubectl(["apply", "-f", join(FOLDER, "istiod.yaml")]);
    await cluster().rollout("deploy/istiod", MESH_NAMESPACE);
    theirs = await toldByPresentIstiod((state) => waypointOf(state) !== undefined);
  });

  test("signs what our ztunnels ask for, and pods talk by it", async () => {
    await cluster().kubectl(["rollout", "restart", "ds/ztunnel", "-n", MESH_NAMESPACE]);
    await cluster().rollout("ds/ztunnel", MESH_NAMESPACE);
    await servedWithIdentity();
  });

  test("enforces a policy that is written now", async () => {
    const policy = {
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { name: "closed", namespace: NAMESPACE },
      spec: { selector: { matchLabels: { app: "shop" } } },
    };
    await cluster().apply(policy);
    await until(() => buy().then(...swapped), { what: "shop to be closed", timeoutMs: 30_000 });
    await cluster().delete(policy);
    await until(async () => (await buy()).startsWith("200 "), { what: "shop to be open", timeoutMs: 30_000 });
  });

  test("lets pods leave and join: nobody but our control plane confirms that all have heard of it, and the agent goes on", async () => {
    const { metadata } = await podOf("shop");
    const name = `${NAMESPACE}/${metadata.name}`;
    const label = (value: string) =>
      cluster().kubectl(["label", "pod", metadata.name, "-n", NAMESPACE, `${DATAPLANE_MODE_LABEL}${value}`]);
    await label("=none");
    await mesh().waitForCaptured(name, false);
    await label("-");
    await mesh().waitForCaptured(name);
    assert.match(await buy(), /^200 /);
  });
});

describe("our control plane in the place of istiod", () => {
  test("tells ztunnel the same of every kind of object, but for what it means to do otherwise", async () => {
    await cluster().kubectl(["delete", "deploy", "istiod", "-n", MESH_NAMESPACE]);
    await mesh().tulle(["install", "-y"], { timeoutMs: INSTALL_LIMIT_MS });
    const ours = await toldByPresentIstiod((state) => waypointOf(state) !== undefined);
    // The mesh's own pods are others now.
    const found = differences(theirs, ours).filter((line) => !line.includes(`Pod/${MESH_NAMESPACE}/`));
    assert.deepEqual(found, MEANT);
    assert.match(await buy(), /^200 /);
  });
});

/** What both ztunnels know as soon as they know of the istiod that runs now, which only that one can tell. */
async function toldByPresentIstiod(isWhole: (state: ToldState) => boolean): Promise<ToldState> {
  const { metadata } = await mesh().controlPlane();
  const told = async (node: number) => {
    const state = await mesh().configDump<ToldState>(node);
    return state.workloads.some((one) => (one as { name?: string }).name === metadata.name) && isWhole(state) && state;
  };
  const [first] = await Promise.all(
    [1, 2].map((node) =>
      until(() => told(node), { what: `all to be told on n${node}`, timeoutMs: TOLD_LIMIT_MS, intervalMs: 500 }),
    ),
  );
  return first ?? assert.fail("there is no node");
}

/** Of the service that has one; the Gateway's address is there when istiod has written its status. */
function waypointOf({ services }: ToldState): object | undefined {
  const named = services as readonly { readonly name: string; readonly waypoint?: object }[];
  return named.find(({ name }) => name === "through-waypoint")?.waypoint;
}

describe("Istio's node agent in the place of ours", () => {
  before(async () => {
    const agent = await cluster().get<Workload>(`/apis/apps/v1/namespaces/${MESH_NAMESPACE}/daemonsets/istio-cni-node`);
    const image = agent?.spec.template.spec.containers[0]?.image ?? assert.fail("there is no node agent of ours");
    const programs = join(cluster().cluster.settings.folder, "istio-cni");
    mkdirSync(programs, { recursive: true });
    for (const name of ["install-cni", "istio-cni"] as const)
      copyFileSync(artifact("istio", name), join(programs, name));
    await cluster().kubectl(["delete", "ds", "istio-cni-node", "-n", MESH_NAMESPACE]);
    const objects = readFileSync(join(FOLDER, "istio-cni.yaml"), "utf8");
    await cluster().apply(objects.replaceAll("PROGRAMS", programs).replaceAll("IMAGE", image));
    await cluster().rollout("ds/istio-cni-node", MESH_NAMESPACE);
  });

  test("hands our ztunnels pods that start, and they are served", async () => {
    await cluster().kubectl(["rollout", "restart", "deploy/shop", "deploy/buyer", "-n", NAMESPACE]);
    for (const name of ["shop", "buyer"]) await cluster().rollout(`deploy/${name}`, NAMESPACE);
    await servedWithIdentity();
  });

  test("hands a ztunnel that starts anew the pods that there are", async () => {
    await cluster().kubectl(["rollout", "restart", "ds/ztunnel", "-n", MESH_NAMESPACE]);
    await cluster().rollout("ds/ztunnel", MESH_NAMESPACE);
    await servedWithIdentity();
  });

  test("takes a running pod out of the mesh and back into it", async () => {
    const { metadata } = await podOf("buyer");
    for (const [value, captured] of [
      ["=none", undefined],
      ["-", "enabled"],
    ] as const) {
      await cluster().kubectl(["label", "pod", metadata.name, "-n", NAMESPACE, `${DATAPLANE_MODE_LABEL}${value}`]);
      await until(async () => redirectionOf(await podOf("buyer")) === captured, { what: `redirection: ${captured}` });
    }
    await servedWithIdentity();
  });

  test("is noticed by tulle install, which does not put another one beside it", async () => {
    await assert.rejects(mesh().tulle(["install", "-y"]), /two node agents would both redirect the pods of a node/);
  });
});

/** shop answers buyer, over mutual TLS. */
async function servedWithIdentity(): Promise<void> {
  const since = Date.now();
  await until(async () => (await buy()).startsWith("200 "), { what: "an answer from shop", timeoutMs: 60_000 });
  const identity = `spiffe://cluster.local/ns/${NAMESPACE}/sa/default`;
  const isOurs = (line: AccessLogLine) => line.direction === "inbound" && line["src.identity"] === identity;
  const lines = async () => (await Promise.all([1, 2].map((node) => mesh().accessLog(node, since)))).flat();
  await until(async () => (await lines()).some(isOurs), {
    what: "a connection of buyer's identity",
    timeoutMs: 30_000,
  });
}

function redirectionOf({ metadata }: PodObject): string | undefined {
  return metadata.annotations?.[REDIRECTION_ANNOTATION];
}

interface Workload {
  readonly spec: {
    readonly template: { readonly spec: { readonly containers: readonly { readonly image: string }[] } };
  };
}

interface Versions {
  readonly clientVersion: { readonly version: string };
}

/** For what has to fail. */
const swapped = [() => false, () => true] as const;

/** Cells of a table whose columns are two blanks apart, or one when no cell has any. */
function rowsOf(table: string): string[][] {
  return table
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/\s+/));
}
