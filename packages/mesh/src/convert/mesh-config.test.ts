import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DEFAULT_MESH_SETTINGS } from "./context.ts";
import { parseMeshConfig } from "./mesh-config.ts";

describe("MeshConfig", () => {
  it("that says nothing is the default", () => {
    for (const text of ["", "{}", "# nothing\n", "trustDomain: ''\nrootNamespace: null\n"]) {
      assert.deepEqual(usable(text), {
        settings: { ...DEFAULT_MESH_SETTINGS, trustDomainAliases: [] },
        ignored: [],
        unknown: [],
      });
    }
  });

  it("is read whole, in JSON's names or protobuf's", () => {
    const settings = {
      ...DEFAULT_MESH_SETTINGS,
      trustDomain: "example.org",
      trustDomainAliases: ["old.org", "cluster.local"],
      rootNamespace: "mesh",
      discoverySelectors: [
        { matchLabels: { mesh_name: "on" }, matchExpressions: [] },
        { matchLabels: {}, matchExpressions: [{ key: "env", operator: "In", values: ["a", "b"] }] },
      ],
      serviceScopeConfigs: [
        {
          namespaceSelector: { matchLabels: { a: "b" }, matchExpressions: [] },
          servicesSelector: undefined,
          scope: "LOCAL",
        },
        {
          namespaceSelector: undefined,
          servicesSelector: {
            matchLabels: {},
            matchExpressions: [{ key: "istio.io/global", operator: "Exists", values: [] }],
          },
          scope: "GLOBAL",
        },
      ],
      serviceEntryVisibility: {
        defaultVisibility: "NAMESPACE",
        policies: [
          {
            visibility: "PUBLIC",
            matchingRules: [{ namespaceSelector: { matchLabels: { team: "net" }, matchExpressions: [] } }],
          },
          { visibility: "NONE", matchingRules: [] },
        ],
      },
    };
    const text = `
trustDomain: example.org
trustDomainAliases: [old.org, cluster.local]
rootNamespace: mesh
discoverySelectors:
- matchLabels: {mesh_name: "on"}
- matchExpressions: [{key: env, operator: In, values: [a, b]}]
serviceScopeConfigs:
- namespaceSelector: {matchLabels: {a: b}}
- servicesSelector: {matchExpressions: [{key: istio.io/global, operator: Exists}]}
  scope: GLOBAL
serviceEntryVisibility:
  defaultVisibility: NAMESPACE
  applyToSidecars: true
  policies:
  - visibility: PUBLIC
    matchingRules: [{namespaceSelector: {matchLabels: {team: net}}}]
  - {visibility: NONE}
`;
    assert.deepEqual(usable(text).settings, settings);
    const proto = text.replace(/trustDomain|rootNamespace|discoverySelectors|service\w+Configs|\w+Selector:/g, (name) =>
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    );
    assert.match(proto, /trust_domain_?[aA]liases|trust_domain/);
    assert.deepEqual(usable(proto.replace("trust_domainAliases", "trust_domain_aliases")).settings, settings);
  });

  it("tells which fields have no effect, and which nobody knows", () => {
    const { ignored, unknown } = usable(
      "{meshMTLS: {}, accessLogFile: /dev/stdout, defaultConfig: {}, zzz: 1, trustDomian: x, extensionProviders: []}",
    );
    assert.deepEqual(ignored, ["accessLogFile", "defaultConfig", "extensionProviders", "meshMTLS"]);
    assert.deepEqual(unknown, ["trustDomian", "zzz"]);
    assert.deepEqual(usable("{mesh_mTLS: {}}").ignored, ["meshMTLS"]);
  });

  const wrong: readonly (readonly [text: string, ...problems: string[]])[] = [
    ["a", "the configuration must be a map of fields"],
    ["[a]", "the configuration must be a map of fields"],
    ["trustDomain: 5", "trustDomain 5 is not a usable name"],
    ["trustDomain: spiffe://x", 'trustDomain "spiffe://x" is not a usable name'],
    ["trustDomain: a/b", 'trustDomain "a/b" is not a usable name'],
    ["trustDomainAliases: old", "trustDomainAliases must be a list"],
    [
      "trustDomainAliases: [a, '', '*']",
      'trustDomainAliases[2] "*" is not a usable name',
      "trustDomainAliases[1] is empty",
    ],
    ["rootNamespace: Istio", 'rootNamespace "Istio" is not a usable name'],
    ["discoverySelectors: {}", "discoverySelectors must be a list"],
    ["discoverySelectors: [x]", "discoverySelectors[0] must be a map of fields"],
    ["discoverySelectors: [{matchLabel: {a: b}}]", "discoverySelectors[0] has the unknown field matchLabel"],
    ["discoverySelectors: [{matchLabels: {a: 1}}]", "discoverySelectors[0].matchLabels.a must be a text"],
    ["discoverySelectors: [{matchLabels: [a]}]", "discoverySelectors[0].matchLabels must be a map of labels"],
    [
      "discoverySelectors: [{matchExpressions: [{key: a, operator: in, values: [b]}]}]",
      "discoverySelectors[0].matchExpressions[0].operator must be one of In, NotIn, Exists, DoesNotExist",
      "discoverySelectors[0].matchExpressions[0].values must be empty with this operator",
    ],
    [
      "discoverySelectors: [{matchExpressions: [{operator: In, values: []}]}]",
      "discoverySelectors[0].matchExpressions[0].key must be the name of a label",
      "discoverySelectors[0].matchExpressions[0].values must not be empty",
    ],
    ["serviceScopeConfigs: [{scope: global}]", "serviceScopeConfigs[0].scope must be one of LOCAL, GLOBAL"],
    ["serviceScopeConfigs: [{selector: {}}]", "serviceScopeConfigs[0] has the unknown field selector"],
    [
      "serviceEntryVisibility: {defaultVisibility: HIDDEN}",
      "serviceEntryVisibility.defaultVisibility must be one of PUBLIC, NAMESPACE, NONE, VISIBILITY_UNSPECIFIED",
    ],
    [
      "serviceEntryVisibility: {policies: [{matchingRules: [{}]}]}",
      "serviceEntryVisibility.policies[0].matchingRules[0].namespaceSelector must be a map of fields",
    ],
    ["{trustDomain: a, trust_domain: b}", "the configuration has trustDomain twice"],
  ];
  for (const [text, ...problems] of wrong) {
    it(`is refused as a whole, with the place: ${text}`, () => {
      assert.deepEqual([...problemsOf(text)].sort(byText), problems.sort(byText));
    });
  }

  it("is refused when it is no YAML, or too large", () => {
    assert.match(problemsOf("a: [")[0] ?? "", /line 1/);
    assert.match(problemsOf("{trustDomain: a, trustDomain: b}")[0] ?? "", /unique/);
    assert.match(problemsOf(" ".repeat((1 << 20) + 1))[0] ?? "", /longer than/);
    const aliases = Array.from({ length: 65 }, (_, index) => `td${index}`).join(", ");
    assert.match(problemsOf(`trustDomainAliases: [${aliases}]`)[0] ?? "", /at most 64/);
    assert.match(problemsOf(`discoverySelectors: [${"{}, ".repeat(257)}]`)[0] ?? "", /at most 256/);
  });
});

function usable(text: string) {
  const parsed = parseMeshConfig(text, DEFAULT_MESH_SETTINGS);
  assert.ok(parsed.kind === "usable", JSON.stringify(parsed));
  return parsed.config;
}

function problemsOf(text: string): readonly string[] {
  const parsed = parseMeshConfig(text, DEFAULT_MESH_SETTINGS);
  assert.ok(parsed.kind === "unusable");
  return parsed.problems;
}

function byText(a: string, b: string): number {
  return a < b ? -1 : 1;
}
