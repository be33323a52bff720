import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { seededRandom } from "@tulle/base";
import * as fc from "fast-check";
import { type DnsDecision, type DnsQuery, resolveDns } from "./dns.ts";
import { kubernetesNames, wildcardsOf } from "./dns-names.ts";
import { newService, newWorkload } from "./defaults.ts";
import type { MeshChange, Service, Workload } from "./model.ts";
import { MeshState } from "./state.ts";

const CLIENT = newWorkload({ uid: "client", name: "client", namespace: "ns1" });

function service(hostname: string, ips: readonly string[], fields: Partial<Service> = {}): MeshChange {
  const [name = "", namespace = "ns1"] = hostname.split(".");
  const vips = ips.map((ip) => ({ network: "", ip }));
  return { kind: "service", service: newService({ name, namespace, hostname, vips, ...fields }) };
}

function endpoint(uid: string, key: string, addresses: readonly string[], fields: Partial<Workload> = {}): MeshChange {
  const services = new Map([[key, new Map([[80, 80]])]]);
  return {
    kind: "workload",
    workload: newWorkload({ uid, name: uid, namespace: "ns1", addresses, services, ...fields }),
  };
}

const HEADLESS = "ns1/headless.ns1.svc.cluster.local";
const MESH: readonly MeshChange[] = [
  service("web.ns1.svc.cluster.local", ["10.0.0.1", "fd00::1"]),
  service("web.ns2.svc.cluster.local", ["10.0.0.2"]),
  service("only6.ns1.svc.cluster.local", ["10.0.0.3", "fd00::3"], { ipFamilies: "IPv6" }),
  service("only4.ns1.svc.cluster.local", ["10.0.0.4", "fd00::4"], { ipFamilies: "IPv4" }),
  service("away.ns1.svc.cluster.local", ["10.0.0.5"], { vips: [{ network: "net2", ip: "10.0.0.5" }] }),
  service("headless.ns1.svc.cluster.local", []),
  service("empty.ns1.svc.cluster.local", []),
  endpoint("a", HEADLESS, ["10.1.0.1", "fd01::1"]),
  endpoint("b", HEADLESS, ["10.1.0.2"]),
  endpoint("sick", HEADLESS, ["10.1.0.3"], { healthy: false }),
  endpoint("remote", HEADLESS, ["10.1.0.4"], { network: "net2" }),
  service("example.com", ["10.0.1.1"], { namespace: "ns1" }),
  service("*.wild.example", ["10.0.1.2"], { namespace: "ns1" }),
  service("*.deep.wild.example", ["10.0.1.3"], { namespace: "ns1" }),
  service("exact.wild.example", ["10.0.1.4"], { namespace: "ns1" }),
  service("noaddress.example", [], { namespace: "ns1" }),
  service("hidden.example", ["10.0.1.5"], { namespace: "ns2", visibility: "Namespace" }),
  service("shared.example", ["10.0.1.6"], { namespace: "ns3" }),
  service("shared.example", ["10.0.1.7"], { namespace: "ns4" }),
];

function ask(name: string, options: Partial<DnsQuery> = {}, changes: readonly MeshChange[] = MESH): DnsDecision {
  const state = new MeshState();
  for (const change of changes) state.apply(change);
  return resolveDns(state, {
    client: CLIENT,
    name,
    family: "IPv4",
    network: "",
    clusterDomain: "cluster.local",
    ipv6Enabled: true,
    random: seededRandom(1),
    ...options,
  });
}

/** Addresses in order, the alias before them; or what else was decided. */
function shown(decision: DnsDecision): string {
  if (decision.kind === "forward") return "forward";
  const alias = decision.cname === undefined ? "" : `${decision.cname} → `;
  return alias + (decision.kind === "nodata" ? "nothing" : decision.addresses.toSorted().join(" "));
}

describe("a name", () => {
  const V6 = { family: "IPv6" } as const;
  const cases: readonly (readonly [name: string, expected: string, options?: Partial<DnsQuery>])[] = [
    ["web.ns1.svc.cluster.local", "10.0.0.1"],
    ["WEB.ns1.svc.cluster.local.", "10.0.0.1"],
    ["web", "10.0.0.1"],
    ["web", "10.0.0.2", { client: { ...CLIENT, namespace: "ns2" } }],
    ["web", "forward", { client: { ...CLIENT, namespace: "ns9" } }],
    ["web.ns2", "10.0.0.2"],
    ["web.ns2.svc", "10.0.0.2"],
    ["web.ns2.svc.cluster", "forward"],
    ["web.ns2.svc.cluster.local", "10.0.0.2"],
    ["web.ns2.svc.other.domain", "forward"],
    ["web.ns2.svc.mesh.example", "10.0.0.9", { clusterDomain: "mesh.example" }],
    ["a.web.ns1.svc.cluster.local", "forward"],
    ["web.ns1.svc.cluster.local", "fd00::1", V6],
    ["web.ns2.svc.cluster.local", "nothing", V6],
    ["web.ns1.svc.cluster.local", "nothing", { ...V6, ipv6Enabled: false }],
    ["only6.ns1.svc.cluster.local", "nothing"],
    ["only6.ns1.svc.cluster.local", "fd00::3", V6],
    ["only4.ns1.svc.cluster.local", "10.0.0.4"],
    ["only4.ns1.svc.cluster.local", "nothing", V6],
    ["away.ns1.svc.cluster.local", "nothing"],
    ["away.ns1.svc.cluster.local", "10.0.0.5", { network: "net2" }],
    ["headless.ns1.svc.cluster.local", "10.1.0.1 10.1.0.2"],
    ["headless", "fd01::1", V6],
    ["empty.ns1.svc.cluster.local", "nothing"],
    ["example.com", "10.0.1.1"],
    ["example.com.ns1.svc.cluster.local", "example.com → 10.0.1.1"],
    ["example.com.svc.cluster.local", "example.com → 10.0.1.1"],
    ["example.com.cluster.local", "example.com → 10.0.1.1"],
    ["example.com.ns2.svc.cluster.local", "forward"],
    ["example.com.ns1.svc.cluster.local", "example.com → nothing", V6],
    ["example.com.corp", "example.com → 10.0.1.1", { searchDomains: ["corp"] }],
    ["example.com.ns1.svc.cluster.local", "forward", { searchDomains: ["corp"] }],
    ["web.ns1.svc.cluster.local", "10.0.0.1", { searchDomains: ["svc.cluster.local"] }],
    ["a.wild.example", "10.0.1.2"],
    ["a.b.wild.example", "10.0.1.2"],
    ["a.deep.wild.example", "10.0.1.3"],
    ["exact.wild.example", "10.0.1.4"],
    ["wild.example", "forward"],
    ["a.wild.example.ns1.svc.cluster.local", "10.0.1.2"],
    ["noaddress.example", "forward"],
    ["hidden.example", "forward"],
    ["hidden.example", "10.0.1.5", { client: { ...CLIENT, namespace: "ns2" } }],
    ["shared.example", "10.0.1.6"],
    ["shared.example", "10.0.1.7", { preferredNamespace: "ns4" }],
    ["shared.example", "10.0.1.7", { client: { ...CLIENT, namespace: "ns4" } }],
    ["unknown.example", "forward"],
    ["", "forward"],
    [".", "forward"],
    ["..", "forward"],
  ];
  for (const [name, expected, options] of cases) {
    it(`"${name}" ${JSON.stringify({ ...options, client: options?.client?.namespace })} → ${expected}`, () => {
      const mesh = service("web.ns2.svc.mesh.example", ["10.0.0.9"], { namespace: "ns2" });
      assert.equal(shown(ask(name, options, [...MESH, mesh])), expected);
    });
  }

  it("gives its addresses in a random order", () => {
    const ips = Array.from({ length: 8 }, (_, i) => `10.0.0.${i}`);
    const orders = new Set<string>();
    for (let seed = 0; seed < 20; seed++) {
      const decision = ask("many.example", { random: seededRandom(seed) }, [service("many.example", ips)]);
      assert.ok(decision.kind === "answer");
      assert.deepEqual(decision.addresses.toSorted(), ips);
      orders.add(decision.addresses.join(" "));
    }
    assert.ok(orders.size > 10);
  });

  it("is looked up without an error, whatever it is", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300 }), (name) => {
        assert.ok(["answer", "nodata", "forward"].includes(ask(name).kind));
      }),
    );
  });
});

describe("the names that Kubernetes makes", () => {
  const cases: readonly (readonly [string, readonly string[]])[] = [
    ["a", ["a", "a.ns.svc.cluster.local"]],
    ["a.b", ["a.b", "a.b.svc.cluster.local", "a.b.ns.svc.cluster.local"]],
    ["a.b.c", ["a.b.c", "a.b.c.svc.cluster.local"]],
    ["a.b.svc", ["a.b.svc", "a.b.svc.cluster.local", "a.b.svc.svc.cluster.local"]],
    ["a.b.c.svc", ["a.b.c.svc", "a.b.c.svc.cluster.local"]],
    ["a.b.c.d", ["a.b.c.d"]],
    ["a.b.svc.cluster.local", ["a.b.svc.cluster.local"]],
  ];
  for (const [name, expected] of cases) {
    it(`of ${name}`, () => {
      assert.deepEqual(kubernetesNames(name, "ns", "cluster.local"), expected);
    });
  }

  it("and wildcards, the most specific first", () => {
    assert.deepEqual(wildcardsOf("a.b.c"), ["*.b.c", "*.c"]);
    assert.deepEqual(wildcardsOf("a"), []);
  });
});
