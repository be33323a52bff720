import assert from "node:assert/strict";
import { test } from "node:test";
import { assertGolden } from "../../test/golden.ts";
import { memoryCluster, type PodAnswers } from "../../test/memory-cluster.ts";
import { tulle } from "../../test/run-cli.ts";
import { shopDump, shopObjects } from "../../test/shop.ts";
import { pathOf } from "./log.ts";

const ZTUNNELS: PodAnswers = {
  "istio-system/ztunnel-a:15000": (method, path) => answer("n1", method, path),
  "istio-system/ztunnel-b:15000": (method, path) => answer("n2", method, path),
};

function answer(node: "n1" | "n2", method: string, path: string): { status?: number; body: string } {
  if (method === "GET" && path === "/config_dump") return { body: JSON.stringify(shopDump(node)) };
  if (method === "POST" && path.startsWith("/logging")) return { body: `current log level is info (${path})\n` };
  return { status: 404, body: "not found" };
}

const run = (answers: PodAnswers, ...args: string[]) =>
  tulle(["ztunnel-config", ...args], { connect: () => memoryCluster(shopObjects(), answers) });

const GOLDEN: readonly (readonly [name: string, args: readonly string[]])[] = [
  ["workload", ["workload"]],
  ["workload-node", ["w", "--node", "n1", "--workload-node", "n2"]],
  ["workload-address", ["workloads", "--address", "10.1.1.7"]],
  ["workload-pod", ["w", "cart.shop"]],
  ["service", ["svc"]],
  ["policy", ["p", "--policy-namespace", "shop"]],
  ["certificate", ["cert"]],
  ["certificate-node", ["c", "--node", "n2"]],
  ["connections", ["connections"]],
  ["connections-inbound", ["cons", "--direction", "inbound", "--raw"]],
  ["connections-pod", ["cons", "till", "-n", "shop"]],
  ["all", ["all", "--with-headers"]],
  ["workload-wide", ["workload", "-o", "wide"]],
  ["service-wide", ["service", "-o", "wide"]],
  ["policy-wide", ["policy", "-o", "wide"]],
  ["certificate-wide", ["certificate", "-o", "wide"]],
  ["connections-wide", ["connections", "-o", "wide"]],
  ["all-wide", ["all", "--node", "n1", "-o", "wide"]],
  ["log", ["log"]],
  ["log-one", ["o", "ztunnel-b", "--level", "access:debug,warning"]],
];

for (const [name, args] of GOLDEN) {
  test(`ztunnel-config ${args.join(" ")}`, async () => {
    const { out, error, exitCode } = await run(ZTUNNELS, ...args);
    assert.equal(exitCode, 0, error);
    assert.equal(error, "");
    assertGolden(`ztunnel-config/${name}.txt`, out);
  });
}

for (const [name, args] of [
  ["policy-json.txt", ["policy", "-o", "json"]],
  ["policy-yaml.txt", ["policy", "-o", "yaml"]],
  ["workload-json.txt", ["workload", "--workload-node", "n1", "-o", "json"]],
  ["service-json.txt", ["service", "-o", "json"]],
  ["connections-yaml.txt", ["connections", "-o", "yaml"]],
  ["certificate-node-json.txt", ["certificate", "--node", "n1", "-o", "json"]],
] as const) {
  test(`ztunnel-config ${args.join(" ")} prints data`, async () => {
    const { out, exitCode } = await run(ZTUNNELS, ...args);
    assert.equal(exitCode, 0);
    assertGolden(`ztunnel-config/${name}`, out);
  });
}

test("the whole dump comes as it is from one ztunnel, and by node from all", async () => {
  const one = await run(ZTUNNELS, "all", "--node", "n1", "-o", "json");
  assert.deepEqual(JSON.parse(one.out), shopDump("n1"));
  const all = await run(ZTUNNELS, "all", "-o", "json");
  assert.deepEqual(JSON.parse(all.out), { n1: shopDump("n1"), n2: shopDump("n2") });
});

test("a dump is read from a file or from standard input, without a cluster", async () => {
  const { out, exitCode } = await tulle(["zc", "workload", "-f", "-"], {
    readText: (path) => Promise.resolve(path === "-" ? JSON.stringify(shopDump("n1")) : ""),
  });
  assert.equal(exitCode, 0);
  assertGolden("ztunnel-config/workload.txt", out);
});

test("ztunnels that know different things are told", async () => {
  const poorer = { ...shopDump("n2"), policies: [], services: [] };
  const { error, out } = await run(
    { ...ZTUNNELS, "istio-system/ztunnel-b:15000": () => ({ body: JSON.stringify(poorer) }) },
    "policy",
  );
  assert.match(error, /! n2 does not know policy shop\/no-tills\n/);
  assert.match(out, /no-tills/);
});

test("a ztunnel that does not answer is named, the others are shown, and the exit code says so", async () => {
  const { out, error, exitCode } = await run(
    { "istio-system/ztunnel-a:15000": ZTUNNELS["istio-system/ztunnel-a:15000"]! },
    "cons",
  );
  assert.equal(exitCode, 1);
  assert.match(error, /^! n2: ztunnel istio-system\/ztunnel-b on n2 does not answer/);
  assert.match(out, /cart\.shop/);
});

const WRONG: readonly (readonly [args: readonly string[], text: RegExp])[] = [
  [["workload", "--node", "n9"], /no ztunnel runs on the node n9\n {2}next: there is one on: n1, n2/],
  [["workload", "nobody"], /there is no pod default\/nobody/],
  [["workload", "cart", "--node", "n1"], /--file, --node and a pod exclude each other/],
  [["workload", "-i", "elsewhere"], /no ztunnel runs in the namespace elsewhere/],
  [["log", "--level", "lout"], /"lout" is not a level/],
  [["log", "--level", "info", "--reset"], /--reset and --level exclude each other/],
];

for (const [args, text] of WRONG) {
  test(`ztunnel-config ${args.join(" ")} is refused with what to do`, async () => {
    const { error, exitCode } = await run(ZTUNNELS, ...args);
    assert.equal(exitCode, 1);
    assert.match(error, text);
    assert.match(error, /\n {2}next: /);
  });
}

test("a file that is no dump is refused", async () => {
  for (const text of ["", "{", "[]", "{}", "null", "7"]) {
    const { error, exitCode } = await tulle(["zc", "s", "-f", "x.json"], { readText: () => Promise.resolve(text) });
    assert.equal(exitCode, 1, text);
    assert.match(error, /x\.json is not/);
  }
});

test("a dump with holes shows what it has", async () => {
  const holes = {
    workloads: [null, {}, 1],
    services: [{}],
    policies: [{ rules: [[[null, {}]], []] }],
    certificates: [{}],
  };
  const text = JSON.stringify({ ...holes, workloadState: { a: null, b: { connections: { inbound: [{}] } } } });
  for (const output of ["short", "wide", "json", "yaml"]) {
    const args = ["zc", "all", "-f", "x", "-o", output];
    const { error, exitCode } = await tulle(args, { readText: () => Promise.resolve(text) });
    assert.deepEqual([error, exitCode], ["", 0], output);
  }
});

test("levels are understood as people write them", () => {
  assert.equal(pathOf({ level: "critical", reset: false }), "/logging?level=error");
  assert.equal(pathOf({ level: "a::b:TRACE,dns=off", reset: false }), "/logging?level=a%3A%3Ab%3Dtrace%2Cdns%3Doff");
  assert.equal(pathOf({ level: undefined, reset: true }), "/logging?level=info&reset");
  assert.equal(pathOf({ level: undefined, reset: false }), "/logging");
});

test("a name from the cluster cannot move the cursor", async () => {
  const dump = {
    ...shopDump("n1"),
    policies: [{ name: "\x1b[2Jevil", namespace: "shop", scope: "x", action: "Deny" }],
  };
  const { out } = await tulle(["zc", "p", "-f", "x"], { readText: () => Promise.resolve(JSON.stringify(dump)) });
  assert.ok(!out.includes("\x1b"));
});
