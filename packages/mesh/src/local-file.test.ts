import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseCidr } from "@tulle/base";
import { newMatch, newPolicy, newService, newWorkload } from "./defaults.ts";
import { dumpLocalConfig, localResources, parseLocalFile } from "./local-file.ts";
import { ResourceLog } from "./resource-log.ts";

const FULL = `
workloads:
- uid: cluster1//v1/Pod/default/local
  name: local
  namespace: default
  serviceAccount: web
  trustDomain: example.org
  workloadIps: ["127.0.0.1", "::ffff:10.0.0.1"]
  protocol: HBONE
  networkMode: Standard
  node: local
  network: net1
  waypoint: {destination: "net1/10.0.0.9", hboneMtlsPort: 15009}
  networkGateway: {destination: "gw/east.example.com", hboneMtlsPort: 15008}
  applicationTunnel: {protocol: PROXY, port: 15088}
  authorizationPolicies: [default/deny-9999]
  services: {"default/example.com": {80: 8080}}
  locality: {region: r, zone: z, subzone: ""}
  capacity: 3
  status: Unhealthy
  workloadName: web
  workloadType: pod
  canonicalName: web
  canonicalRevision: v1
  clusterId: c1
- {workloadIps: [], namespace: other, services: {}, hostname: db.example.com}
policies:
- name: deny-9999
  namespace: default
  scope: WorkloadSelector
  action: Deny
  dryRun: false
  rules: [[[{notDestinationPorts: [9999], notPrincipals: [{Presence: []}], namespaces: [{Exact: a}, {Prefix: b}],
    sourceIps: ["10.0.0.0/8", "::1"], serviceAccounts: [{namespace: n, serviceAccount: s}]}]]]
services:
- name: example
  namespace: default
  hostname: example.com
  vips: ["/127.10.0.1", net1/10.1.1.1]
  cidrVips: [{network: net1, cidr: 10.2.0.0/16}]
  ports: {80: 8080, "443": 0}
  subjectAltNames: ["spiffe://a/ns/b/sa/c"]
  loadBalancer: {routingPreferences: [Network, Region], mode: Failover, healthPolicy: AllowAll}
  ipFamilies: Dual
  canonical: true
  visibility: Namespace
  weightedWaypoints: [{destination: {destination: default/wp, hboneMtlsPort: 15008}, weight: 90}]
`;

const RANGES = [parseCidr("10.0.0.0/8"), parseCidr("::1/128")].filter((cidr) => cidr !== undefined);

describe("the local file", () => {
  it("is read with all its fields", () => {
    const { workloads, services, policies } = parsed(FULL);
    assert.deepEqual(workloads[0], {
      ...newWorkload({ uid: "cluster1//v1/Pod/default/local", name: "local", namespace: "default" }),
      serviceAccount: "web",
      trustDomain: "example.org",
      addresses: ["127.0.0.1", "10.0.0.1"],
      protocol: "HBONE",
      node: "local",
      network: "net1",
      waypoint: { destination: { kind: "address", network: "net1", ip: "10.0.0.9" }, hboneMtlsPort: 15009 },
      networkGateway: {
        destination: { kind: "hostname", namespace: "gw", hostname: "east.example.com" },
        hboneMtlsPort: 15008,
      },
      applicationTunnel: { protocol: "PROXY", port: 15088 },
      authorizationPolicies: ["default/deny-9999"],
      services: new Map([["default/example.com", new Map([[80, 8080]])]]),
      locality: { region: "r", zone: "z", subzone: "" },
      capacity: 3,
      healthy: false,
      workloadName: "web",
      workloadType: "pod",
      canonicalName: "web",
      canonicalRevision: "v1",
      clusterId: "c1",
    });
    assert.deepEqual(workloads[1], newWorkload({ uid: "", name: "", namespace: "other", hostname: "db.example.com" }));
    assert.deepEqual(services, [
      newService({
        name: "example",
        namespace: "default",
        hostname: "example.com",
        vips: [
          { network: "", ip: "127.10.0.1" },
          { network: "net1", ip: "10.1.1.1" },
        ],
        cidrVips: [parseCidr("10.2.0.0/16")].flatMap((cidr) => (cidr ? [{ network: "net1", cidr }] : [])),
        ports: new Map([
          [80, 8080],
          [443, 0],
        ]),
        subjectAltNames: ["spiffe://a/ns/b/sa/c"],
        loadBalancer: { routingPreferences: ["Network", "Region"], mode: "Failover", healthPolicy: "AllowAll" },
        ipFamilies: "Dual",
        canonical: true,
        visibility: "Namespace",
        weightedWaypoints: [
          {
            destination: {
              destination: { kind: "hostname", namespace: "default", hostname: "wp" },
              hboneMtlsPort: 15008,
            },
            weight: 90,
          },
        ],
      }),
    ]);
    const match = newMatch({
      notDestinationPorts: [9999],
      notPrincipals: [{ kind: "presence" }],
      namespaces: [
        { kind: "exact", value: "a" },
        { kind: "prefix", value: "b" },
      ],
      sourceIps: RANGES,
      serviceAccounts: [{ namespace: "n", serviceAccount: "s" }],
    });
    const expected = newPolicy({ name: "deny-9999", namespace: "default", action: "Deny", rules: [[[match]]] });
    assert.deepEqual(policies, [{ ...expected, scope: "WorkloadSelector" }]);
  });

  it("may be empty", () => {
    for (const text of ["", "{}", "workloads: []\nservices:\npolicies: null\n"]) {
      assert.deepEqual(parsed(text), { workloads: [], services: [], policies: [] });
    }
  });

  it("may be JSON, and what staticConfig shows is a file again", () => {
    const config = parsed(FULL);
    const shown = dumpLocalConfig(config);
    const withoutEndpoints = {
      ...shown,
      services: shown.services.map((s) => ({ ...(s as object), endpoints: undefined })),
    };
    assert.deepEqual(parsed(JSON.stringify(withoutEndpoints)), config);
  });

  const W = "workloads: [{workloadIps: [], namespace: a, services: {}";
  const S = "services: [{name: s, namespace: a, hostname: h, vips: [], ports: {}";
  const P = "policies: [{name: p, namespace: a, scope: Global, action: Deny, dryRun: false";
  const cases: readonly (readonly [name: string, text: string, error: RegExp])[] = [
    [
      "an unknown top-level key",
      "workload: []",
      /^f:1:11: workload: unknown key \(known are workloads, services, policies\)$/,
    ],
    ["an unknown key of a workload", `${W}, ip: x}]`, /^f:1:63: workloads\[0\]\.ip: unknown key/],
    ["an unknown key of a service", `${S}, endpoints: {}}]`, /services\[0\]\.endpoints: unknown key/],
    ["an unknown key of a policy", `${P}, rules: [], x: 1}]`, /policies\[0\]\.x: unknown key/],
    [
      "an unknown key of a match",
      `${P}, rules: [[[{notPrincipal: []}]]]}]`,
      /policies\[0\]\.rules\[0\]\[0\]\[0\]\.notPrincipal: unknown key/,
    ],
    [
      "missing keys of a workload",
      "workloads:\n- name: x\n",
      /^f:2:3: workloads\[0\]: missing workloadIps, namespace, services$/,
    ],
    ["missing keys of a service", "services: [{name: s}]", /missing namespace, hostname, vips, ports$/],
    ["missing keys of a policy", "policies: [{name: p}]", /missing namespace, scope, action, rules, dryRun$/],
    [
      "missing keys of a load balancer",
      `${S}, loadBalancer: {mode: Strict}}]`,
      /missing routingPreferences, healthPolicy$/,
    ],
    [
      "an address that is none",
      "workloads: [{workloadIps: [10.0.0.256], namespace: a, services: {}}]",
      /workloadIps\[0\]: "10.0.0.256" is no address/,
    ],
    ["a protocol in another spelling", `${W}, protocol: hbone}]`, /protocol: expected HBONE or TCP, found "hbone"/],
    [
      "a port out of range",
      `${W.replace("{}", "{a/b: {80: 65536}}")}}]`,
      /a\/b\.80: expected a whole number from 0 to 65535, found 65536/,
    ],
    ["a port that is no number", `${W.replace("{}", "{a/b: {http: 80}}")}}]`, /"http" is no port/],
    [
      "a service key without namespace",
      `${W.replace("{}", "{web: {}}")}}]`,
      /expected <namespace>\/<hostname>, found "web"/,
    ],
    ["services as a list", `${W.replace("{}", "[a/b]")}}]`, /services: expected a mapping, found a list/],
    [
      "a waypoint that is nowhere",
      `${W}, waypoint: {destination: here}}]`,
      /waypoint\.destination: expected <namespace>\/<name>, found "here"/,
    ],
    ["a waypoint without a name", `${W}, waypoint: {destination: a/}}]`, /no network\/ip or namespace\/hostname/],
    ["a VIP that is no address", `${S.replace("[]", "[net/x]")}}]`, /expected <network>\/<ip>, found "net\/x"/],
    ["a string match of two kinds", `${P}, rules: [[[{principals: [{Exact: a, Prefix: b}]}]]]}]`, /exactly one of/],
    ["a string match of no kind", `${P}, rules: [[[{principals: [{}]}]]]}]`, /exactly one of/],
    ["a bad range", `${P}, rules: [[[{sourceIps: [10.0.0.0/33]}]]]}]`, /"10.0.0.0\/33" is no address range/],
    ["rules that are too shallow", `${P}, rules: [{principals: []}]}]`, /rules\[0\]: expected a list, found a mapping/],
    [
      "a uid that is there twice",
      `workloads:\n- &w {workloadIps: [], namespace: a, services: {}}\n- *w\n`,
      /workload "" is there twice/,
    ],
    ["the same key twice", "services: []\nservices: []", /^f:2:1: /],
    ["text that is no YAML", "workloads: [", /^f:1:/],
    ["a second document", "workloads: []\n---\nservices: []", /^f:/],
    ["a list at the top", "[]", /expected a mapping, found a list/],
  ];
  for (const [name, text, error] of cases) {
    it(`refuses ${name}, and says where`, () => {
      const result = parseLocalFile(text, "f");
      assert.ok(!result.ok);
      assert.match(result.errors[0] ?? "", error);
    });
  }

  it("names every resource that is wrong, not just the first", () => {
    const result = parseLocalFile(
      "workloads:\n- {namespace: a}\n- {workloadIps: 1, namespace: a, services: {}}\n",
      "f",
    );
    assert.ok(!result.ok);
    assert.deepEqual(result.errors, [
      "f:2:3: workloads[0]: missing workloadIps, services",
      "f:3:17: workloads[1].workloadIps: expected a list, found 1",
    ]);
  });

  it("survives aliases that multiply", () => {
    const levels = Array.from(
      { length: 9 },
      (_, i) => `  l${i + 1}: &l${i + 1} [${Array(9).fill(`*l${i}`).join(", ")}]`,
    );
    const text = `workloads:\n- workloadIps: []\n  l0: &l0 [x]\n${levels.join("\n")}\n  namespace: a\n  services: {}\n`;
    const result = parseLocalFile(text, "f");
    assert.ok(!result.ok);
    assert.match(result.errors[0] ?? "", /unknown key/);
  });
});

describe("reading the file again", () => {
  it("changes only what changed", () => {
    const log = new ResourceLog();
    const first = log.replace(localResources(parsed(FULL)));
    assert.deepEqual(
      first.map((change) => change.kind),
      ["policy", "service", "workload", "workload"],
    );
    assert.deepEqual(log.replace(localResources(parsed(FULL))), []);
    const next = parsed(FULL.replace("capacity: 3", "capacity: 4").replace("name: deny-9999", "name: deny-all"));
    const changes = log.replace(localResources(next));
    assert.deepEqual(
      changes.map((change) => change.kind),
      ["policy", "workload", "remove-policy"],
    );
    assert.deepEqual(
      log.replace([]).map((change) => change.kind),
      ["remove-workload", "remove-workload", "remove-service", "remove-policy"],
    );
  });
});

function parsed(text: string) {
  const result = parseLocalFile(text, "f");
  assert.ok(result.ok, result.ok ? "" : result.errors.join("\n"));
  return result.config;
}
