import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { drainingRules, type PodRuleOptions, podRules } from "./pod-rules.ts";
import { formatTransaction, type Table } from "./ruleset.ts";

/** The variants of Istio's own golden files, and ours (spec: l4-ztunnel §1.8). DNS capture is on only where the name says so. */
const VARIANTS: Readonly<Record<string, PodRuleOptions>> = {
  default: {},
  ingress: { dnsCapture: false, ingressMode: true },
  virtual_interfaces: { dnsCapture: false, virtualInterfaces: ["fake1s0f0", "fake1s0f1"] },
  ingress_and_virtual_interfaces: {
    dnsCapture: false,
    ingressMode: true,
    virtualInterfaces: ["fake1s0f0", "fake1s0f1"],
  },
  hostprobe: { dnsCapture: false, probeIps: ["169.254.7.128", "e9ac:1e77:90ca:399f:4d6d:ece2:2f9b:3164"] },
  hostprobe_ports: { probePorts: [8081, 8080, 8081] },
  dns_pod_disabled_and_on_globally: { dnsCapture: false },
  dns_pod_enabled_and_off_globally: { dnsCapture: true },
};

/** `GOLDEN=write npm test packages/linux/src/rules/pod-rules.test.ts` writes them anew; look at the difference before committing. */
function assertGolden(name: string, tables: readonly Table[]): void {
  const path = join(import.meta.dirname, "golden", `${name}.nft`);
  const text = formatTransaction({ remove: [], add: tables });
  if (process.env.GOLDEN === "write") writeFileSync(path, text);
  assert.equal(text, readFileSync(path, "utf8"));
}

for (const [name, options] of Object.entries(VARIANTS)) {
  test(`the rules of ${name} are as in its golden file`, () =>
    assertGolden(name, podRules({ ...options, ipv6: false })));
  test(`the rules of ${name} with IPv6 are as in its golden file`, () =>
    assertGolden(`${name}_ipv6`, podRules(options)));
}

test("the rules that outlive removal are as in their golden files", () => {
  assertGolden("draining", drainingRules(false));
  assertGolden("draining_ipv6", drainingRules(true));
});

test("every redirection of TCP is limited to opening SYNs", () => {
  for (const options of Object.values(VARIANTS)) {
    const rules = podRules(options).flatMap(({ chains }) => chains.flatMap((chain) => chain.rules));
    const redirects = rules.filter(({ text }) => text.includes("redirect") && !text.startsWith("udp"));
    assert.ok(redirects.length > 0);
    for (const { text } of redirects) assert.match(text, /tcp flags & \(fin \| syn \| rst \| ack\) == syn .*redirect/);
  }
});

test("what is no interface or address cannot get into the ruleset", () => {
  for (const name of ["", "a b", 'x"', "x;drop", "0123456789abcdef", "x\ny"]) {
    assert.throws(() => podRules({ virtualInterfaces: [name] }), RangeError, JSON.stringify(name));
  }
  assert.throws(() => podRules({ probeIps: ["169.254.7.127/32"] }), RangeError);
  for (const port of [0, -1, 65536, 1.5, Number.NaN]) {
    assert.throws(() => podRules({ probePorts: [port] }), RangeError, String(port));
  }
});

test("probes are let past to declared ports only, and the pod itself gets no way around ztunnel", () => {
  const texts = (probePorts: readonly number[]) =>
    podRules({ probePorts }).flatMap(({ chains }) => chains.flatMap(({ rules }) => rules.map(({ text }) => text)));
  assert.ok(!texts([]).some((text) => text.includes("169.254.7.127")));
  const probes = texts([80]).filter((text) => text.includes("169.254.7.127"));
  assert.deepEqual(new Set(probes), new Set(["tcp dport { 80 } ip saddr 169.254.7.127 accept"]));
});

test("replacing tables is one transaction that does not mind whether they exist", () => {
  assert.equal(
    formatTransaction({ remove: [{ family: "inet", name: "x" }], add: [] }),
    "add table inet x\ndelete table inet x\n",
  );
});
