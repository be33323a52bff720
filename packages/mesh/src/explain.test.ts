import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { seededRandom } from "@tulle/base";
import { newMatch, newPolicy, newService, newWorkload } from "./defaults.ts";
import { type ExplainQuery, explain } from "./explain.ts";
import type { GatewayAddress, MeshChange, Policy, Workload } from "./model.ts";
import { MeshState } from "./state.ts";

const WEB = "shop/web.shop.svc.cluster.local";

function pod(name: string, ip: string, fields: Partial<Workload> = {}): MeshChange {
  const uid = `c//Pod/shop/${name}`;
  const base = newWorkload({ uid, name, namespace: "shop", serviceAccount: name, protocol: "HBONE", addresses: [ip] });
  return { kind: "workload", workload: { ...base, ...fields } };
}

function policy(action: "Allow" | "Deny", rules: Policy["rules"]): MeshChange {
  return { kind: "policy", policy: newPolicy({ name: "p", namespace: "shop", action, rules }) };
}

const SERVICE = newService({
  name: "web",
  namespace: "shop",
  hostname: "web.shop.svc.cluster.local",
  vips: [{ network: "", ip: "10.96.0.1" }],
  ports: new Map([[80, 8080]]),
});
const ENDPOINT = { services: new Map([[WEB, new Map<number, number>()]]) };
const BASE: readonly MeshChange[] = [
  pod("client", "10.0.0.1"),
  pod("web", "10.0.0.2", ENDPOINT),
  { kind: "service", service: SERVICE },
  { kind: "synced" },
];
const WAYPOINT: GatewayAddress = {
  destination: { kind: "address", network: "", ip: "10.0.0.9" },
  hboneMtlsPort: 15008,
};

function ask(changes: readonly MeshChange[], query: Partial<ExplainQuery>) {
  const state = new MeshState();
  for (const change of [...BASE, ...changes]) state.apply(change);
  return explain(state, {
    source: "shop/client",
    destination: "web:80",
    network: "",
    clusterDomain: "cluster.local",
    meshCidrs: [],
    random: seededRandom(1),
    ...query,
  });
}

describe("an explanation", () => {
  it("goes through everything that was looked at", () => {
    const { outcome, steps, waypoint } = ask([], {});
    assert.equal(outcome, "hbone");
    assert.equal(waypoint, undefined);
    assert.deepEqual(
      steps.map(({ code, text }) => `${code}: ${text}`),
      [
        "source: shop/client is spiffe://cluster.local/ns/shop/sa/client",
        'name: "web" is 10.96.0.1',
        `destination: 10.96.0.1 is service ${WEB} (1 of 1 endpoints can be used)`,
        "endpoint: shop/web is in the mesh",
        "route: encrypted to 10.0.0.2:15008 for 10.0.0.2:8080; the peer must be spiffe://cluster.local/ns/shop/sa/web",
        "policies: no policy holds for it",
        "verdict: allowed: nothing restricts it",
      ],
    );
  });

  const client = newMatch({ principals: [{ kind: "exact", value: "cluster.local/ns/shop/sa/client" }] });
  const cases: readonly (readonly [string, readonly MeshChange[], Partial<ExplainQuery>, string, RegExp])[] = [
    ["denied by a policy", [policy("Deny", [[[client]]])], {}, "denied", /denied: explicitly denied by: shop\/p/],
    ["denied by no policy in particular", [policy("Allow", [])], {}, "denied", /none allowed/],
    ["allowed by a policy", [policy("Allow", [[[client]]])], {}, "hbone", /allowed by shop\/p/],
    [
      "denied for want of a policy",
      [pod("web", "10.0.0.2", { ...ENDPOINT, authorizationPolicies: ["shop/gone"] })],
      {},
      "denied",
      /then denied: policy is named by the workload but unknown: shop\/gone/,
    ],
    [
      "through a waypoint",
      [{ kind: "service", service: { ...SERVICE, waypoint: WAYPOINT } }, pod("wp", "10.0.0.9")],
      {},
      "hbone",
      /goes through waypoint \/10\.0\.0\.9, now at shop\/wp/,
    ],
    [
      "through a waypoint that is not there",
      [{ kind: "service", service: { ...SERVICE, waypoint: WAYPOINT } }],
      {},
      "refused",
      /then refused: unknown waypoint: waypoint \/10\.0\.0\.9 not found/,
    ],
    [
      "to a pod outside the mesh",
      [pod("old", "10.0.0.5", { protocol: "TCP" })],
      { destination: "10.0.0.5:80" },
      "plaintext",
      /not in the mesh/,
    ],
    ["to somebody unknown", [], { destination: "1.2.3.4:80" }, "passthrough", /unencrypted, whoever that is/],
    [
      "to a node",
      [pod("h", "192.168.0.1", { hostNetwork: true })],
      { destination: "192.168.0.1:80" },
      "passthrough",
      /is a node/,
    ],
    [
      "to a service without endpoints",
      [{ kind: "remove-workload", uid: "c//Pod/shop/web" }],
      {},
      "refused",
      /no healthy upstream/,
    ],
    ["from an address", [], { source: "10.0.0.1" }, "hbone", /shop\/client is spiffe/],
    ["from a uid", [], { source: "c//Pod/shop/client" }, "hbone", /shop\/client is spiffe/],
    [
      "from a pod outside the mesh",
      [pod("client", "10.0.0.1", { protocol: "TCP" })],
      {},
      "hbone",
      /its own proxy does not see this/,
    ],
    ["from nobody", [], { source: "shop/nobody" }, "unknown", /no workload is known as "shop\/nobody"/],
    [
      "to a name that the mesh does not know",
      [],
      { destination: "example.org:80" },
      "unknown",
      /no address for "example.org"/,
    ],
    ["to nothing", [], { destination: "web" }, "unknown", /"web" is no destination/],
  ];
  for (const [name, changes, query, outcome, text] of cases) {
    it(`says why: ${name}`, () => {
      const explanation = ask(changes, query);
      assert.equal(explanation.outcome, outcome);
      assert.match(explanation.steps.map((step) => step.text).join("\n"), text);
    });
  }

  it("names the policy and the waypoint for machines, too", () => {
    assert.equal(ask([policy("Deny", [[[client]]])], {}).policy, "shop/p");
    const changes: MeshChange[] = [
      { kind: "service", service: { ...SERVICE, waypoint: WAYPOINT } },
      pod("wp", "10.0.0.9"),
    ];
    assert.equal(ask(changes, {}).waypoint, "/10.0.0.9");
  });
});
