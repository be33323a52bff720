import assert from "node:assert/strict";
import { test } from "node:test";
import { assertGolden } from "../../test/golden.ts";
import { memoryCluster } from "../../test/memory-cluster.ts";
import { tulle } from "../../test/run-cli.ts";
import { shopObjects } from "../../test/shop.ts";
import { age } from "./columns.ts";

const get = (...args: string[]) =>
  tulle(["get", ...args], { connect: () => memoryCluster(shopObjects({ policy: true })) });
/** Ages grow while the golden files stay. */
const ageless = (text: string) => text.replaceAll(/ \d+[smhd]\n/g, " <age>\n");

const GOLDEN: readonly (readonly [name: string, args: readonly string[]])[] = [
  ["pods", ["pods", "-n", "shop"]],
  ["pods-wide", ["po", "-A", "-o", "wide"]],
  ["namespaces", ["ns"]],
  ["services", ["svc", "-n", "shop"]],
  ["policy", ["ap", "no-tills", "-n", "shop"]],
  ["nodes", ["nodes"]],
];

for (const [name, args] of GOLDEN) {
  test(`get ${args.join(" ")}`, async () => {
    const { out, error, exitCode } = await get(...args);
    assert.equal(exitCode, 0, error);
    assertGolden(`get/${name}.txt`, ageless(out));
  });
}

test("get NAME -o yaml prints the object with its status", async () => {
  const { out } = await get("authorizationpolicies.security.istio.io", "no-tills", "-n", "shop", "-o", "yaml");
  assertGolden("get/policy.yaml", out);
});

for (const [name, args] of [
  ["service-entries", ["se", "-n", "shop"]],
  ["workload-entries", ["we", "-A"]],
  ["services-all", ["svc", "-A"]],
  ["services-wide", ["svc", "-A", "-o", "wide"]],
  ["configmaps-wide", ["cm", "-A", "-o", "wide"]],
  ["deployments", ["deploy", "-n", "istio-system"]],
] as const) {
  test(`get ${args.join(" ")} has columns of its own`, async () => {
    const connect = () => memoryCluster(shopObjects({ waypoint: true }));
    const { out, error, exitCode } = await tulle(["get", ...args], { connect });
    assert.deepEqual([error, exitCode], ["", 0]);
    assertGolden(`get/${name}.txt`, ageless(out));
  });
}

for (const output of ["json", "yaml"]) {
  test(`get pods -o ${output} is a List of whole objects`, async () => {
    assertGolden(`get/pods-${output}.txt`, (await get("pods", "-n", "shop", "-o", output)).out);
    assertGolden(`get/empty-${output}.txt`, (await get("pods", "-n", "default", "-o", output)).out);
  });
}

test("a list as data is a List", async () => {
  const { out } = await get("nodes", "-o", "json");
  const { kind, items } = JSON.parse(out) as { kind: string; items: readonly { kind: string }[] };
  assert.equal(kind, "List");
  assert.deepEqual(
    items.map((item) => item.kind),
    ["Node", "Node"],
  );
});

test("what is not there is told with what to do", async () => {
  const unknown = await get("polcies");
  assert.equal(unknown.exitCode, 1);
  assert.match(unknown.error, /there is no kind "polcies"/);
  assert.match((await get("servces")).error, /next: did you mean services or service/);
  assert.match(
    (await get("pod", "x")).error,
    /there is no pods x in the namespace default\n {2}next: see what there is: tulle get pods -A/,
  );
  assert.match((await get("pod", "x", "-A")).error, /a name and --all-namespaces exclude each other/);
  const empty = await get("pods");
  assert.equal(empty.exitCode, 0);
  assert.equal(empty.out, "");
  assert.equal(empty.error, "No pods in the namespace default.\n");
});

test("an age has one unit", () => {
  const now = Date.parse("2026-03-10T00:00:00Z");
  for (const [created, text] of [
    ["2026-03-09T23:59:58Z", "2s"],
    ["2026-03-09T23:58:31Z", "89s"],
    ["2026-03-09T23:50:00Z", "10m"],
    ["2026-03-09T00:00:00Z", "24h"],
    ["2026-03-01T00:00:00Z", "9d"],
    ["2026-03-10T00:00:05Z", "0s"],
  ] as const) {
    assert.equal(age(created, now), text);
  }
  assert.equal(age(undefined, now), "<unknown>");
});
