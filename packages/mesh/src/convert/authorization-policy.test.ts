import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parse } from "yaml";
import { authorize } from "../authorize.ts";
import { newWorkload } from "../defaults.ts";
import { dumpPolicy } from "../dump.ts";
import type { Policy } from "../model.ts";
import { MeshState } from "../state.ts";
import { convertAuthorizationPolicy, type PolicySettings } from "./authorization-policy.ts";
import type { KubePolicy } from "./kubernetes.ts";

const SETTINGS: PolicySettings = { rootNamespace: "istio-system", trustDomain: "cluster.local" };
const HTTP = "ztunnel does not support HTTP attributes";
const WAYPOINT = " HTTP rules need a waypoint and a targetRef to it.";
const LEFT_OUT = "Rules of this ALLOW policy that use them are left out: less is allowed than asked for.";
const BROADER = "This DENY policy is enforced without them: more is denied than asked for.";
const ALL_DENIED = "A rule of this DENY policy has nothing else in it and denies all traffic.";
const ACCEPTED = "True Accepted attached to ztunnel";

/** Name, spec, rules as YAML (`[]` rules hold for nothing, a rule `[]` for everything), condition. */
type Row = readonly [name: string, spec: string, rules: string, condition: string];

/** Every field that L4 has, as control-plane.md §2.7 and §6.4 list them. */
const L4: readonly Row[] = [
  ["nothing is allowed", "{action: ALLOW}", "[]", ACCEPTED],
  ["an empty spec allows nothing", "{}", "[]", ACCEPTED],
  ["a missing spec allows nothing", "null", "[]", ACCEPTED],
  ["an empty rule holds for everything", "{rules: [{}]}", "[[]]", ACCEPTED],
  ["a DENY without rules denies nothing", "{action: DENY}", "[]", ACCEPTED],
  [
    "principals: whole, beginning, end, any",
    "{rules: [{from: [{source: {principals: [a/ns/b/sa/c, 'a*', '*/c', '*'], notPrincipals: [d]}}]}]}",
    "[[[{principals: [{Exact: a/ns/b/sa/c}, {Prefix: a}, {Suffix: /c}, {Presence: []}], notPrincipals: [{Exact: d}]}]]]",
    ACCEPTED,
  ],
  [
    "namespaces",
    "{rules: [{from: [{source: {namespaces: [a, 'b*'], notNamespaces: ['*c']}}]}]}",
    "[[[{namespaces: [{Exact: a}, {Prefix: b}], notNamespaces: [{Suffix: c}]}]]]",
    ACCEPTED,
  ],
  [
    "service accounts, of the policy's namespace unless they name one",
    "{rules: [{from: [{source: {serviceAccounts: [web, other/web], notServiceAccounts: [a/b]}}]}]}",
    `[[[{serviceAccounts: [{namespace: demo, serviceAccount: web}, {namespace: other, serviceAccount: web}],
      notServiceAccounts: [{namespace: a, serviceAccount: b}]}]]]`,
    ACCEPTED,
  ],
  [
    "address ranges",
    "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8, '::1'], notIpBlocks: [10.1.2.3]}}]}]}",
    "[[[{sourceIps: [10.0.0.0/8, '::1/128'], notSourceIps: [10.1.2.3/32]}]]]",
    ACCEPTED,
  ],
  [
    "trust domains: how principals begin",
    "{rules: [{from: [{source: {trustDomains: [a, 'b*', '*'], notTrustDomains: [c], notPrincipals: [p]}}]}]}",
    `[[[{principals: [{Prefix: a/}, {Prefix: b}, {Presence: []}], notPrincipals: [{Prefix: c/}, {Exact: p}]}]]]`,
    ACCEPTED,
  ],
  [
    "trust domains beside principals: what both hold for",
    "{rules: [{from: [{source: {trustDomains: [a, b], principals: [a/ns/x/sa/y, 'c/*', 'b/ns/*']}}]}]}",
    "[[[{principals: [{Exact: a/ns/x/sa/y}, {Prefix: b/ns/}]}]]]",
    ACCEPTED,
  ],
  [
    "ports",
    "{rules: [{to: [{operation: {ports: ['80', 81], notPorts: ['82']}}]}]}",
    "[[[{destinationPorts: [80, 81], notDestinationPorts: [82]}]]]",
    ACCEPTED,
  ],
  [
    "when: each key is a clause of its own",
    `{rules: [{when: [{key: source.ip, values: [10.0.0.1], notValues: [10.0.0.2]}, {key: source.namespace, values: [a]},
      {key: source.principal, notValues: ['*']}, {key: source.serviceAccount, values: [s]}, {key: source.trustDomain, values: [td]},
      {key: destination.ip, values: [10.2.0.0/16]}, {key: destination.port, values: ['80'], notValues: ['90']}]}]}`,
    `[[[{sourceIps: [10.0.0.1/32], notSourceIps: [10.0.0.2/32]}], [{namespaces: [{Exact: a}]}],
      [{notPrincipals: [{Presence: []}]}], [{serviceAccounts: [{namespace: demo, serviceAccount: s}]}],
      [{principals: [{Prefix: td/}]}], [{destinationIps: [10.2.0.0/16]}],
      [{destinationPorts: [80], notDestinationPorts: [90]}]]]`,
    ACCEPTED,
  ],
  [
    "to, then from, then when; items are alternatives",
    `{action: DENY, rules: [{from: [{source: {namespaces: [a]}}, {source: {principals: [b]}}],
      to: [{operation: {ports: ['1']}}, {operation: {ports: ['2']}}], when: [{key: source.ip, values: [10.0.0.1]}]}]}`,
    `[[[{destinationPorts: [1]}, {destinationPorts: [2]}], [{namespaces: [{Exact: a}]}, {principals: [{Exact: b}]}],
      [{sourceIps: [10.0.0.1/32]}]]]`,
    ACCEPTED,
  ],
];

const BAD_FROM = "from: [{source: {namespaces: [bad]}}]";
const BAD = "[{namespaces: [{Exact: bad}]}]";

const L7: readonly Row[] = [
  ...["hosts", "methods", "paths", "notHosts", "notMethods", "notPaths"].map(
    (name): Row => [
      `an ALLOW rule with ${name} is left out`,
      `{rules: [{to: [{operation: {${name}: [x]}}]}, {${BAD_FROM}}]}`,
      `[[${BAD}]]`,
      `True UnsupportedValue ${HTTP} (found: ${name}). ${LEFT_OUT}${WAYPOINT}`,
    ],
  ),
  ...["remoteIpBlocks", "notRemoteIpBlocks", "requestPrincipals", "notRequestPrincipals"].map(
    (name): Row => [
      `a DENY rule with ${name} beside others is enforced without`,
      `{action: DENY, rules: [{from: [{source: {namespaces: [bad], ${name}: [x]}}]}]}`,
      `[[${BAD}]]`,
      `True UnsupportedValue ${HTTP} (found: ${name}). ${BROADER}${WAYPOINT}`,
    ],
  ),
  ...[
    "remote.ip",
    "request.headers[x]",
    "request.auth.principal",
    "request.auth.claims[a][b]",
    "connection.sni",
    "experimental.envoy.filters.network.mysql_proxy[db]",
  ].map(
    (key): Row => [
      `a DENY rule with ${key} is enforced without`,
      `{action: DENY, rules: [{${BAD_FROM}, when: [{key: '${key}', values: [x]}]}]}`,
      `[[${BAD}]]`,
      `True UnsupportedValue ${HTTP} (found: ${key}). ${BROADER}${WAYPOINT}`,
    ],
  ),
  [
    "names are sorted and said once",
    "{rules: [{to: [{operation: {paths: [x], methods: [y]}}]}, {to: [{operation: {methods: [z]}}]}]}",
    "[]",
    `True UnsupportedValue ${HTTP} (found: methods, paths). ${LEFT_OUT}${WAYPOINT}`,
  ],
  [
    "an ALLOW rule with methods in one of its items is left out whole",
    `{rules: [{${BAD_FROM}, to: [{operation: {ports: ['80']}}, {operation: {methods: [POST]}}]}]}`,
    "[]",
    `True UnsupportedValue ${HTTP} (found: methods). ${LEFT_OUT}${WAYPOINT}`,
  ],
  [
    "a DENY rule with nothing but methods denies all",
    "{action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]}",
    "[[]]",
    `True UnsupportedValue ${HTTP} (found: methods). ${ALL_DENIED}${WAYPOINT}`,
  ],
  [
    "a DENY rule with methods and others is enforced without",
    `{action: DENY, rules: [{${BAD_FROM}, to: [{operation: {methods: [POST]}}]}]}`,
    `[[${BAD}]]`,
    `True UnsupportedValue ${HTTP} (found: methods). ${BROADER}${WAYPOINT}`,
  ],
  [
    "a DENY rule with methods as one of several alternatives: any of them",
    `{action: DENY, rules: [{${BAD_FROM}, to: [{operation: {ports: ['80']}}, {operation: {methods: [POST]}}]}]}`,
    `[[${BAD}]]`,
    `True UnsupportedValue ${HTTP} (found: methods). ${BROADER}${WAYPOINT}`,
  ],
  [
    "a DENY rule with methods and ports in one item keeps the ports",
    "{action: DENY, rules: [{to: [{operation: {ports: ['80'], methods: [POST]}}]}]}",
    "[[[{destinationPorts: [80]}]]]",
    `True UnsupportedValue ${HTTP} (found: methods). ${BROADER}${WAYPOINT}`,
  ],
];

/** Fragment of a rule that cannot be read, and how the condition names it. */
const UNREADABLE: readonly (readonly [rule: string, problem: string])[] = [
  ["{from: [{source: {ipBlocks: [10.0.0.0/33, 10.0.0.1]}}]}", 'source.ipBlocks: "10.0.0.0/33": not an address range'],
  ["{from: [{source: {notIpBlocks: [x]}}]}", 'source.notIpBlocks: "x": not an address range'],
  ["{to: [{operation: {ports: [http]}}]}", 'operation.ports: "http": not a port'],
  ["{to: [{operation: {notPorts: ['65536']}}]}", 'operation.notPorts: "65536": not a port'],
  ["{to: [{operation: {ports: 80}}]}", "operation.ports: not a list of texts"],
  ["{to: [{operation: {ports: [{}]}}]}", "operation.ports: not a list of texts"],
  ["{from: [{source: {namespaces: ['']}}]}", "source.namespaces: not a list of texts"],
  ["{from: [{source: {principal: [a]}}]}", "source.principal: unknown field"],
  ["{from: [{source: {principals: ['a/*/c']}}]}", 'source.principals: "a/*/c": a * may only stand at one end'],
  ["{from: [{source: {namespaces: ['a*b*']}}]}", 'source.namespaces: "a*b*": a * may only stand at one end'],
  ["{from: [{source: {notServiceAccounts: ['*']}}]}", 'source.notServiceAccounts: "*": not a service account'],
  ["{from: [{source: {serviceAccounts: [a/b/c]}}]}", 'source.serviceAccounts: "a/b/c": not a service account'],
  ["{from: [{source: {serviceAccounts: [a/]}}]}", 'source.serviceAccounts: "a/": not a service account'],
  [
    "{from: [{source: {trustDomains: ['*.org']}}]}",
    'source.trustDomains: "*.org": not a trust domain or the beginning of one',
  ],
  ["{from: [{source: {}}]}", "source: empty"],
  ["{from: [{source: {namespaces: []}}]}", "source: empty"],
  ["{from: [{}]}", "source: missing"],
  ["{from: [{sources: {namespaces: [a]}}]}", "from.sources: unknown field; rules[0].source: missing"],
  ["{from: [x]}", "from: not an object"],
  ["{from: {source: {}}}", "from: not a list"],
  ["{to: [{operation: [a]}]}", "operation: not an object"],
  ["{when: [{key: source.ip}]}", "source.ip: empty"],
  ["{when: [{key: source.ip, value: [10.0.0.1]}]}", "when.value: unknown field"],
  ["{when: [{key: source.ipp, values: [10.0.0.1]}]}", "when: unknown key source.ipp"],
  ["{when: [{values: [a]}]}", "when.key: missing"],
  ["{when: [x]}", "when: not an object"],
  ["{form: [{source: {namespaces: [a]}}]}", "form: unknown field"],
  ["null", "not an object"],
];

describe("an AuthorizationPolicy is converted:", () => {
  for (const [name, spec, rules, condition] of [...L4, ...L7]) {
    it(name, () => {
      const { policy, text } = converted(spec);
      assert.deepEqual(policy && dumpPolicy(policy)["rules"], parse(rules));
      assert.equal(text, condition);
    });
  }
});

describe("a rule that cannot be read", () => {
  for (const [rule, problem] of UNREADABLE) {
    it(`neither allows nor lets pass: ${rule}`, () => {
      const said = `False Invalid the spec cannot be read in part (rules[0].${problem}).`;
      const allow = converted(`{rules: [${rule}]}`);
      assert.deepEqual(allow.policy?.rules, []);
      assert.equal(allow.text, `${said} ${LEFT_OUT}`);
      const deny = converted(`{action: DENY, rules: [${rule}]}`);
      assert.equal(deny.text, `${said} ${ALL_DENIED}`);
      assert.deepEqual([allowsAnything(allow.policy), allowsAnything(deny.policy)], [false, false]);
    });
  }

  it("does not take others with it, and what else is in it stays", () => {
    const { policy, text } = converted(
      `{action: DENY, rules: [{${BAD_FROM}, to: [{operation: {ports: [x], methods: [GET]}}]}, {to: [{operation: {ports: ['1']}}]}]}`,
    );
    assert.deepEqual(policy && dumpPolicy(policy)["rules"], parse(`[[${BAD}], [[{destinationPorts: [1]}]]]`));
    const unreadable = 'the spec cannot be read in part (rules[0].operation.ports: "x": not a port).';
    assert.equal(text, `False Invalid ${unreadable} ${HTTP} (found: methods). ${BROADER}${WAYPOINT}`);
  });

  it("of conditions on the principal that cannot hold together, or cannot be said together", () => {
    const said = "source.trustDomains: cannot be combined with the other condition on the principal";
    for (const [principal, match] of [
      ["*/sa/x", "{Suffix: /sa/x}"],
      ["b/ns/x/sa/y", "{Exact: b/ns/x/sa/y}"],
    ]) {
      const rules = `rules: [{from: [{source: {principals: ['${principal}'], trustDomains: [a]}}]}]`;
      const allow = converted(`{${rules}}`);
      assert.deepEqual(allow.policy?.rules, []);
      assert.match(allow.text, new RegExp(`^False Invalid .*${said}`));
      const deny = converted(`{action: DENY, ${rules}}`);
      assert.deepEqual(deny.policy && dumpPolicy(deny.policy)["rules"], parse(`[[[{principals: [${match}]}]]]`));
      assert.ok(deny.text.endsWith(BROADER), deny.text);
    }
  });

  it("is told in a message of bounded length", () => {
    const ports = JSON.stringify(Array.from({ length: 1000 }, (_, index) => `${"x".repeat(200)}${index}`));
    const { text } = converted(`{rules: [${`{to: [{operation: {ports: ${ports}}}]},`.repeat(100)}]}`);
    assert.ok(text.length < 4096, String(text.length));
    assert.match(text, /and 997 more/);
    assert.match(text, /and 92 more/);
  });
});

describe("a spec that cannot be read", () => {
  const cases: readonly (readonly [spec: string, problem: string, scope: Policy["scope"]])[] = [
    ["x", "spec: not an object", "Namespace"],
    ["{rules: x}", "rules: not a list", "Namespace"],
    ["{action: allow}", 'action: "allow" is none', "Namespace"],
    ["{action: DENY, rule: [{}]}", "rule: unknown field", "Namespace"],
    ["{selector: {matchExpressions: []}}", "selector", "Namespace"],
    ["{selector: {matchLabels: {app: 1}}}", "selector", "Namespace"],
    ["{selector: {matchLabels: {app: x}}, action: 1}", "action: 1 is none", "WorkloadSelector"],
    ["{targetRefs: x}", "targetRefs: not a list", "Namespace"],
    ["{targetRef: x}", "targetRef: not an object", "Namespace"],
    ["{selector: {matchLabels: {app: x}}, targetRefs: [{}]}", "both selector and targetRefs", "WorkloadSelector"],
  ];
  for (const [spec, problem, scope] of cases) {
    it(`denies all: ${spec}`, () => {
      const { policy, text } = converted(spec);
      assert.deepEqual([policy?.action, policy?.rules, policy?.scope], ["Deny", [[]], scope]);
      const denied = "all traffic is denied until it is corrected";
      assert.equal(text, `False Invalid the spec cannot be read (${problem}): ${denied}`);
      assert.equal(allowsAnything(policy), false);
    });
  }
});

describe("an AuthorizationPolicy", () => {
  it("of an action that L4 does not have is not sent, and says so", () => {
    for (const action of ["AUDIT", "CUSTOM"]) {
      const { policy, text } = converted(`{action: ${action}, provider: {name: p}, rules: [{}]}`);
      assert.equal(policy, undefined);
      assert.equal(text, `False UnsupportedValue ztunnel does not support the ${action} action`);
    }
  });

  it("bound to a waypoint is not for L4, which has nothing to say of it", () => {
    for (const spec of ["{targetRefs: [{kind: Gateway, name: wp}]}", "{targetRef: {kind: Service, name: s}}"]) {
      const nothing = { policy: undefined, selector: undefined, status: undefined };
      assert.deepEqual(convertAuthorizationPolicy(object(spec), SETTINGS), nothing);
    }
    assert.equal(converted("{targetRefs: []}").policy?.scope, "Namespace");
  });

  it("has the scope of its namespace and selector", () => {
    const cases: readonly (readonly [namespace: string, spec: string, scope: Policy["scope"]])[] = [
      ["istio-system", "{}", "Global"],
      ["demo", "{}", "Namespace"],
      ["demo", "{selector: {}}", "Namespace"],
      ["demo", "{selector: {matchLabels: {}}}", "Namespace"],
      ["demo", "{selector: {matchLabels: {app: x}}}", "WorkloadSelector"],
      ["istio-system", "{selector: {matchLabels: {app: x}}}", "WorkloadSelector"],
    ];
    for (const [namespace, spec, scope] of cases) assert.equal(converted(spec, { namespace }).policy?.scope, scope);
  });

  it("is only tried when it says so, and never by mistake", () => {
    const cases: readonly (readonly [annotation: string, dryRun: boolean, note: string])[] = [
      ["true", true, " (dry run: what it matches is reported, nothing is refused for it)"],
      ["1", true, " (dry run: what it matches is reported, nothing is refused for it)"],
      ["false", false, ""],
      ["perhaps", false, " (the annotation istio.io/dry-run is not a boolean: the policy is enforced)"],
    ];
    for (const [annotation, dryRun, note] of cases) {
      const { policy, text } = converted("{}", { annotations: { "istio.io/dry-run": annotation } });
      assert.equal(policy?.dryRun, dryRun);
      assert.equal(text, ACCEPTED + note);
    }
  });

  it("tells the generation that it was read from, under upstream's writer", () => {
    const { status } = convertAuthorizationPolicy(object("{}", { generation: 7 }), SETTINGS);
    const { kind, namespace, name, generation, manager, conditions } = status ?? assert.fail();
    assert.deepEqual([kind, namespace, name, generation], ["AuthorizationPolicy", "demo", "p", 7]);
    assert.equal(manager, "istio-ambient-ztunnel-policy");
    assert.deepEqual(
      conditions.map(({ type }) => type),
      ["ZtunnelAccepted"],
    );
  });
});

describe("trust domains that are aliases", () => {
  const aliased: PolicySettings = { ...SETTINGS, trustDomain: "new", trustDomainAliases: ["old", "new"] };
  const cases: readonly (readonly [name: string, source: string, match: string])[] = [
    [
      "a principal holds under each name",
      "{principals: [old/ns/a/sa/b]}",
      "{principals: [{Exact: old/ns/a/sa/b}, {Exact: new/ns/a/sa/b}]}",
    ],
    [
      "so does the beginning of one",
      "{principals: ['new/ns/*']}",
      "{principals: [{Prefix: new/ns/}, {Prefix: old/ns/}]}",
    ],
    [
      "and what is excluded",
      "{notPrincipals: [new/ns/a/sa/b]}",
      "{notPrincipals: [{Exact: new/ns/a/sa/b}, {Exact: old/ns/a/sa/b}]}",
    ],
    ["the trust domain itself, too", "{trustDomains: [old]}", "{principals: [{Prefix: old/}, {Prefix: new/}]}"],
    [
      "and the beginning of its name",
      "{trustDomains: ['ol*']}",
      "{principals: [{Prefix: ol}, {Prefix: new/}, {Prefix: old/}]}",
    ],
    [
      "a foreign one stands for itself",
      "{principals: [other/ns/a/sa/b, 'x*']}",
      "{principals: [{Exact: other/ns/a/sa/b}, {Prefix: x}]}",
    ],
    ["an end of a principal is under any name", "{principals: ['*/sa/b']}", "{principals: [{Suffix: /sa/b}]}"],
  ];
  for (const [name, source, match] of cases) {
    it(name, () => {
      const { policy } = convertAuthorizationPolicy(object(`{rules: [{from: [{source: ${source}}]}]}`), aliased);
      assert.deepEqual(policy && dumpPolicy(policy)["rules"], parse(`[[[${match}]]]`));
    });
  }
});

function object(spec: string, metadata: KubePolicy["metadata"] = {}): KubePolicy {
  return { metadata: { name: "p", namespace: "demo", ...metadata }, spec: parse(spec) as unknown };
}

function converted(spec: string, metadata?: KubePolicy["metadata"]) {
  const { policy, status } = convertAuthorizationPolicy(object(spec, metadata), SETTINGS);
  const [condition] = status?.conditions ?? [];
  return { policy, text: `${condition?.status} ${condition?.reason} ${condition?.message}` };
}

/** Whether a workload to which the policy applies lets any of a few very different connections in. */
function allowsAnything(policy: Policy | undefined): boolean {
  assert.ok(policy);
  const state = new MeshState();
  const local = newWorkload({
    uid: "w",
    name: "w",
    namespace: "demo",
    addresses: ["10.0.0.5"],
    authorizationPolicies: policy.scope === "WorkloadSelector" ? ["demo/p"] : [],
  });
  state.apply({ kind: "policy", policy });
  state.apply({ kind: "workload", workload: local });
  const identity = { trustDomain: "a", namespace: "a", serviceAccount: "b" };
  return [undefined, identity].some((from) =>
    [80, 65535].some((port) => {
      const query = {
        identity: from,
        source: { ip: "10.0.0.1", port: 1 },
        destination: { ip: "10.0.0.5", port },
        local,
      };
      return authorize(state, query).kind !== "denied";
    }),
  );
}
