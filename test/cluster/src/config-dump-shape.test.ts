import assert from "node:assert/strict";
import { test } from "node:test";
import { configDumpFaults } from "./config-dump-shape.ts";

const WORKLOAD = {
  workloadIps: ["10.244.1.5"],
  protocol: "HBONE",
  networkMode: "Standard",
  uid: "Kubernetes//Pod/shop/cart-1",
  name: "cart-1",
  namespace: "shop",
  status: "Healthy",
  clusterId: "Kubernetes",
  capacity: 1,
};

/** Only its workloads matter here. */
function faultsOf(workload: object): string[] {
  return configDumpFaults({ workloads: [workload] }).filter((fault) => fault.includes("workloads[0]"));
}

test("takes a workload with what is always there", () => {
  assert.deepEqual(faultsOf(WORKLOAD), []);
});

const cases: readonly (readonly [string, object, RegExp])[] = [
  ["a key that is missing", { ...WORKLOAD, capacity: undefined, status: "Healthy" }, /capacity is undefined/],
  ["a key that nobody knows", { ...WORKLOAD, ip: "10.244.1.5" }, /has ip, which nobody knows/],
  [
    "a value of another type",
    { ...WORKLOAD, workloadIps: "10.244.1.5" },
    /workloadIps is "10\.244\.1\.5", want a list/,
  ],
  ["a word that tools do not know", { ...WORKLOAD, protocol: "H2" }, /protocol is "H2", want HBONE or TCP/],
  ["a gateway without its port", { ...WORKLOAD, waypoint: { destination: "/10.0.0.1" } }, /lacks hboneMtlsPort/],
];
for (const [what, workload, fault] of cases) {
  test(`tells of ${what}`, () => {
    const [found, ...more] = faultsOf(workload);
    assert.match(found ?? "", fault);
    assert.deepEqual(more, []);
  });
}

test("tells which parts of the whole are missing", () => {
  const missing = configDumpFaults({}).filter((fault) => fault.startsWith("config_dump lacks "));
  assert.equal(missing.length, 9);
});
