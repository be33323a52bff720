import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { cidrContains, type Identity, parseCidr } from "@tulle/base";
import * as fc from "fast-check";
import { ip, match as anyMatch, policy as anyPolicy, word } from "../test/arbitraries.ts";
import { applicablePolicies, authorize, type Verdict } from "./authorize.ts";
import { newMatch, newPolicy, newWorkload } from "./defaults.ts";
import type { Policy, PolicyMatch, StringMatch, Workload } from "./model.ts";
import { policyKey } from "./model.ts";
import { MeshState } from "./state.ts";

const ALICE: Identity = { trustDomain: "td", namespace: "from", serviceAccount: "alice" };
const LOCAL = newWorkload({ uid: "c//Pod/ns/web", name: "web", namespace: "ns", addresses: ["10.0.0.2"] });

interface Call {
  readonly identity?: Identity | undefined;
  readonly source?: string;
  readonly destination?: string;
  readonly port?: number;
  readonly local?: Workload;
}

/** By default Alice calls 10.0.0.2:80 from 10.0.0.1. `identity: undefined` is plaintext. */
function judge(policies: readonly Policy[], call: Call = {}): Verdict {
  const state = new MeshState();
  for (const policy of policies) state.apply({ kind: "policy", policy });
  return authorize(state, query(call));
}

function query(call: Call) {
  return {
    identity: "identity" in call ? call.identity : ALICE,
    source: { ip: call.source ?? "10.0.0.1", port: 4321 },
    destination: { ip: call.destination ?? "10.0.0.2", port: call.port ?? 80 },
    local: call.local ?? LOCAL,
  };
}

function allow(name: string, rules: Policy["rules"], fields: Partial<Policy> = {}): Policy {
  return newPolicy({ name, namespace: "ns", action: "Allow", rules, ...fields });
}

function deny(name: string, rules: Policy["rules"], fields: Partial<Policy> = {}): Policy {
  return newPolicy({ name, namespace: "ns", action: "Deny", rules, ...fields });
}

/** A policy of one rule of one clause of one match. */
function one(conditions: Partial<PolicyMatch>): Policy["rules"] {
  return [[[newMatch(conditions)]]];
}

function cidr(text: string) {
  const parsed = parseCidr(text);
  assert.ok(parsed);
  return parsed;
}

const exact = (value: string): StringMatch => ({ kind: "exact", value });
const prefix = (value: string): StringMatch => ({ kind: "prefix", value });
const suffix = (value: string): StringMatch => ({ kind: "suffix", value });
const presence: StringMatch = { kind: "presence" };
const ANYTHING = [[]];

describe("evaluation", () => {
  const cases: readonly (readonly [string, readonly Policy[], string])[] = [
    ["without policies everything is allowed", [], "allowed"],
    ["a DENY that matches wins", [allow("a", ANYTHING), deny("d", ANYTHING)], "explicitly denied by: ns/d"],
    ["a DENY that does not match leaves the rest", [deny("d", one({ destinationPorts: [81] }))], "allowed"],
    ["an ALLOW that matches allows", [allow("a", one({ destinationPorts: [80] }))], "allowed by ns/a"],
    ["one ALLOW of several is enough", [allow("a", []), allow("b", ANYTHING)], "allowed by ns/b"],
    [
      "an ALLOW that does not match denies",
      [allow("a", one({ destinationPorts: [81] }))],
      "allow policies exist, but none allowed",
    ],
    ["an ALLOW without rules denies all", [allow("a", [])], "allow policies exist, but none allowed"],
    ["a DENY without rules does nothing", [deny("d", [])], "allowed"],
    ["policies of other namespaces do not matter", [deny("d", ANYTHING, { namespace: "other" })], "allowed"],
    [
      "global policies matter everywhere",
      [deny("d", ANYTHING, { namespace: "root", scope: "Global" })],
      "explicitly denied by: root/d",
    ],
    [
      "a global ALLOW restricts everywhere",
      [allow("a", [], { namespace: "root", scope: "Global" })],
      "allow policies exist, but none allowed",
    ],
    [
      "policies with a selector matter only to those who name them",
      [deny("d", ANYTHING, { scope: "WorkloadSelector" })],
      "allowed",
    ],
    ["a dry run changes nothing", [deny("d", ANYTHING, { dryRun: true }), allow("a", [], { dryRun: true })], "allowed"],
  ];
  for (const [name, policies, expected] of cases) {
    it(name, () => {
      assert.equal(outcome(judge(policies)), expected);
    });
  }

  it("named policies count, with the others", () => {
    const local = { ...LOCAL, authorizationPolicies: ["ns/named"] };
    const scope = "WorkloadSelector" as const;
    assert.equal(outcome(judge([deny("named", ANYTHING, { scope })], { local })), "explicitly denied by: ns/named");
    assert.equal(outcome(judge([allow("named", ANYTHING, { scope })], { local })), "allowed by ns/named");
    const policies = [allow("named", [], { scope }), allow("wide", ANYTHING)];
    assert.equal(outcome(judge(policies, { local })), "allowed by ns/wide");
  });

  it("a dry run is reported, whatever the verdict", () => {
    const dryRun = { dryRun: true };
    const local = { ...LOCAL, authorizationPolicies: ["ns/named"] };
    const policies = [
      deny("d", ANYTHING, dryRun),
      deny("no", one({ destinationPorts: [1] }), dryRun),
      allow("a", ANYTHING, { ...dryRun, scope: "Global" }),
      deny("named", ANYTHING, { ...dryRun, scope: "WorkloadSelector" }),
    ];
    const expected = [
      { policy: "ns/a", action: "Allow" },
      { policy: "ns/d", action: "Deny" },
      { policy: "ns/named", action: "Deny" },
    ];
    for (const enforced of [[], [deny("x", ANYTHING)], [allow("x", [])]]) {
      const verdict = judge([...policies, ...enforced], { local });
      assert.deepEqual(
        verdict.dryRun.toSorted((a, b) => (a.policy < b.policy ? -1 : 1)),
        expected,
      );
    }
  });
});

describe("a policy that is named but missing", () => {
  const local = { ...LOCAL, authorizationPolicies: ["ns/gone", "ns/there"] };
  const there = (action: "Allow" | "Deny", rules: Policy["rules"]) =>
    newPolicy({ name: "there", namespace: "ns", scope: "WorkloadSelector", action, rules });

  it("makes a connection wait, and says for what", () => {
    const verdict = judge([there("Allow", ANYTHING)], { local });
    assert.deepEqual(verdict, {
      kind: "wait",
      missing: ["ns/gone"],
      reason: "policy is named by the workload but unknown: ns/gone",
      dryRun: [],
    });
  });

  it("does not hold up a denial", () => {
    assert.equal(outcome(judge([there("Deny", ANYTHING)], { local })), "explicitly denied by: ns/there");
    assert.equal(
      outcome(judge([there("Deny", []), deny("wide", ANYTHING)], { local })),
      "explicitly denied by: ns/wide",
    );
  });

  it("makes wait even where nothing else would restrict", () => {
    assert.equal(judge([], { local: { ...LOCAL, authorizationPolicies: ["ns/gone"] } }).kind, "wait");
  });
});

describe("rules", () => {
  const yes = newMatch({ destinationPorts: [80] });
  const no = newMatch({ destinationPorts: [81] });
  const cases: readonly (readonly [string, Policy["rules"], boolean])[] = [
    ["any rule is enough", [[[no]], [[yes]]], true],
    ["all clauses must hold", [[[yes], [no]]], false],
    ["any match of a clause is enough", [[[no, yes], [yes]]], true],
    ["a rule without clauses holds", [[]], true],
    ["a clause without matches holds", [[[]]], true],
    ["an empty match never holds", [[[newMatch({})]]], false],
    ["an empty match beside one that holds is skipped", [[[newMatch({}), yes]]], true],
    ["an empty match in one clause spoils the rule", [[[yes], [newMatch({})]]], false],
    ["no rules hold for nothing", [], false],
    ["fields of a match must all hold", one({ destinationPorts: [80], namespaces: [exact("other")] }), false],
  ];
  for (const [name, rules, holds] of cases) {
    it(name, () => {
      assert.equal(judge([allow("a", rules)]).kind === "allowed", holds);
      assert.equal(judge([deny("d", rules)]).kind === "denied", holds);
    });
  }
});

describe("conditions", () => {
  const plaintext = { identity: undefined };
  const cases: readonly (readonly [string, Partial<PolicyMatch>, Call, boolean])[] = [
    ["a principal", { principals: [exact("td/ns/from/sa/alice")] }, {}, true],
    ["a principal with its scheme is none", { principals: [exact("spiffe://td/ns/from/sa/alice")] }, {}, false],
    ["the beginning of a principal", { principals: [prefix("td/ns/from/")] }, {}, true],
    ["the wrong beginning", { principals: [prefix("td/ns/fromage")] }, {}, false],
    ["the end of a principal", { principals: [suffix("/sa/alice")] }, {}, true],
    ["the wrong end", { principals: [suffix("/sa/bob")] }, {}, false],
    ["any principal", { principals: [presence] }, {}, true],
    ["one of several principals", { principals: [exact("x"), prefix("td/")] }, {}, true],
    ["not this principal", { notPrincipals: [exact("td/ns/from/sa/alice")] }, {}, false],
    ["not another principal", { notPrincipals: [exact("x")] }, {}, true],
    ["not any principal", { notPrincipals: [presence] }, {}, false],
    ["a namespace", { namespaces: [exact("from")] }, {}, true],
    ["another namespace", { namespaces: [exact("fro")] }, {}, false],
    ["not a namespace", { notNamespaces: [suffix("om")] }, {}, false],
    ["an account", { serviceAccounts: [{ namespace: "from", serviceAccount: "alice" }] }, {}, true],
    [
      "an account of that name elsewhere",
      { serviceAccounts: [{ namespace: "x", serviceAccount: "alice" }] },
      {},
      false,
    ],
    ["not an account", { notServiceAccounts: [{ namespace: "from", serviceAccount: "alice" }] }, {}, false],
    ["a port", { destinationPorts: [80, 81] }, {}, true],
    ["not a port", { notDestinationPorts: [80] }, {}, false],
    ["a source", { sourceIps: [cidr("10.0.0.0/24")] }, {}, true],
    ["a source at the edge", { sourceIps: [cidr("10.0.0.0/31")] }, {}, true],
    ["a source beyond the edge", { sourceIps: [cidr("10.0.0.2/31")] }, {}, false],
    ["everything", { sourceIps: [cidr("0.0.0.0/0")] }, {}, true],
    ["everything of the other family", { sourceIps: [cidr("::/0")] }, {}, false],
    ["a v6 source", { sourceIps: [cidr("fd00::/9")] }, { source: "fd7f::1" }, true],
    ["a v6 source beyond the edge", { sourceIps: [cidr("fd00::/9")] }, { source: "fd80::1" }, false],
    ["a v4 source in v6 disguise", { sourceIps: [cidr("10.0.0.1")] }, { source: "::ffff:10.0.0.1" }, true],
    ["a v4 range in v6 disguise", { sourceIps: [cidr("::ffff:10.0.0.1")] }, {}, true],
    ["not a source, in v6 disguise", { notSourceIps: [cidr("10.0.0.0/8")] }, { source: "::ffff:10.0.0.1" }, false],
    ["an address with bits beyond its prefix", { sourceIps: [cidr("10.0.0.99/24")] }, {}, true],
    ["a destination", { destinationIps: [cidr("10.0.0.2/32")] }, {}, true],
    ["not a destination", { notDestinationIps: [cidr("10.0.0.2/32")] }, {}, false],

    ["plaintext has no principal", { principals: [presence] }, plaintext, false],
    ["plaintext begins like no principal", { principals: [prefix("")] }, plaintext, false],
    ["plaintext is not the empty principal", { principals: [exact("")] }, plaintext, false],
    ["plaintext is what has no principal", { notPrincipals: [presence] }, plaintext, true],
    ["plaintext is not excluded by a name", { notPrincipals: [exact("td/ns/from/sa/alice")] }, plaintext, true],
    ["plaintext is not excluded by an empty beginning", { notPrincipals: [prefix("")] }, plaintext, true],
    ["plaintext is in no namespace", { namespaces: [presence] }, plaintext, false],
    ["plaintext is in the empty namespace", { namespaces: [exact("")] }, plaintext, true],
    ["plaintext is not excluded by a namespace", { notNamespaces: [exact("from")] }, plaintext, true],
    ["plaintext is not excluded by any namespace", { notNamespaces: [presence] }, plaintext, true],
    ["plaintext has no account", { serviceAccounts: [{ namespace: "", serviceAccount: "" }] }, plaintext, false],
    [
      "plaintext is not excluded by an account",
      { notServiceAccounts: [{ namespace: "", serviceAccount: "" }] },
      plaintext,
      true,
    ],
  ];
  for (const [name, conditions, call, holds] of cases) {
    it(`hold or not: ${name}`, () => {
      assert.equal(judge([allow("a", one(conditions))], call).kind === "allowed", holds);
    });
  }

  it("STRICT denies plaintext and nothing else", () => {
    const strict = deny("strict", one({ notPrincipals: [presence] }));
    assert.equal(judge([strict], plaintext).kind, "denied");
    assert.equal(judge([strict]).kind, "allowed");
  });

  it("an address that cannot be read is denied", () => {
    assert.equal(judge([], { source: "nowhere" }).kind, "denied");
    assert.equal(judge([allow("a", ANYTHING)], { destination: "" }).kind, "denied");
  });
});

describe("the index of rules", () => {
  const identity = fc.option(
    fc.record(
      { trustDomain: fc.constantFrom("a", "td"), namespace: word, serviceAccount: word },
      { noNullPrototype: true },
    ),
    { nil: undefined },
  );

  it("finds what a look at every policy would find, also after changes", () => {
    const steps = fc.array(fc.oneof(anyPolicy, fc.constantFrom("a/p", "a/q", "b/p", "b/q")), { maxLength: 12 });
    fc.assert(
      fc.property(steps, identity, ip, ip, fc.constantFrom(80, 8080, 1), (all, who, source, destination, port) => {
        const state = new MeshState();
        const kept = new Map<string, Policy>();
        for (const step of all) {
          if (typeof step === "string") {
            state.apply({ kind: "remove-policy", key: step });
            kept.delete(step);
          } else {
            state.apply({ kind: "policy", policy: step });
            kept.set(policyKey(step), step);
          }
        }
        const local = newWorkload({ uid: "u", name: "w", namespace: "a", authorizationPolicies: ["b/p"] });
        const call = { identity: who, source, destination, port, local };
        const verdict = authorize(state, query(call));
        const expected = naive([...kept.values()], kept, call);
        assert.equal(verdict.kind, expected);
        const enforced = [...kept.values()].filter((policy) => concerns(policy, local) && !policy.dryRun);
        if (verdict.kind === "denied" && verdict.policy !== undefined) {
          assert.ok(enforced.some((policy) => policyKey(policy) === verdict.policy && policy.action === "Deny"));
        }
      }),
      { numRuns: 2000 },
    );
  });

  it("finds rules by each kind of condition, among ten thousand policies", () => {
    const state = new MeshState();
    const some = (i: number): Partial<PolicyMatch> =>
      [
        { principals: [exact(`td/ns/n${i}/sa/s`)] },
        { namespaces: [exact(`n${i}`)] },
        { serviceAccounts: [{ namespace: `n${i}`, serviceAccount: "s" }] },
        { sourceIps: [cidr(`172.${16 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`)] },
        { destinationPorts: [10_000 + i] },
      ][i % 5] ?? {};
    for (let i = 0; i < 10_000; i++) {
      const rules = Array.from({ length: 10 }, () => one(some(i)).flat());
      state.apply({ kind: "policy", policy: deny(`p${i}`, rules) });
    }
    const denier = (call: Call) => outcome(authorize(state, query(call)));
    const who = (i: number) => ({ trustDomain: "td", namespace: `n${i}`, serviceAccount: "s" });
    assert.equal(denier({}), "allowed");
    assert.equal(denier({ identity: who(5000) }), "explicitly denied by: ns/p5000");
    assert.equal(denier({ identity: who(5001) }), "explicitly denied by: ns/p5001");
    assert.equal(denier({ identity: who(5002) }), "explicitly denied by: ns/p5002");
    assert.equal(denier({ source: "172.16.19.139" }), "explicitly denied by: ns/p5003");
    assert.equal(denier({ port: 15_004 }), "explicitly denied by: ns/p5004");
    for (let i = 0; i < 10_000; i++) state.apply({ kind: "remove-policy", key: `ns/p${i}` });
    assert.equal(denier({ identity: who(5000), port: 15_004 }), "allowed");
  });

  it("looks at a rule whose alternatives cannot all be indexed", () => {
    const mixed = [[[newMatch({ principals: [exact("x")] }), newMatch({ destinationPorts: [80] })]]];
    assert.equal(judge([deny("d", mixed)]).kind, "denied");
    const many = Array.from({ length: 300 }, (_, i) => exact(`p${i}`));
    assert.equal(judge([deny("d", one({ principals: [...many, exact("td/ns/from/sa/alice")] }))]).kind, "denied");
    const negated = one({ principals: [exact("td/ns/from/sa/alice")], notPrincipals: [exact("x")] });
    assert.equal(judge([deny("d", negated)]).kind, "denied");
  });
});

describe("a change of scope", () => {
  it("takes effect at once", () => {
    const state = new MeshState();
    const apply = (fields: Partial<Policy>) => {
      state.apply({ kind: "policy", policy: deny("d", ANYTHING, fields) });
      return [LOCAL, { ...LOCAL, namespace: "x" }].map((local) => authorize(state, query({ local })).kind);
    };
    assert.deepEqual(apply({}), ["denied", "allowed"]);
    assert.deepEqual(apply({ scope: "Global" }), ["denied", "denied"]);
    assert.deepEqual(apply({ scope: "WorkloadSelector" }), ["allowed", "allowed"]);
    assert.deepEqual(apply({ action: "Allow", rules: [] }), ["denied", "allowed"]);
    assert.deepEqual(apply({ dryRun: true }), ["allowed", "allowed"]);
  });
});

describe("what holds for a workload", () => {
  it("is listed with what is missing", () => {
    const state = new MeshState();
    const scope = "WorkloadSelector" as const;
    const policies = [
      deny("b", []),
      allow("a", [], { scope }),
      deny("c", [], { namespace: "x" }),
      deny("z", [], { scope }),
    ];
    for (const policy of policies) state.apply({ kind: "policy", policy });
    assert.deepEqual(applicablePolicies(state, { ...LOCAL, authorizationPolicies: ["ns/a", "ns/gone"] }), {
      present: [
        { key: "ns/a", action: "Allow", dryRun: false },
        { key: "ns/b", action: "Deny", dryRun: false },
      ],
      missing: ["ns/gone"],
    });
  });
});

function outcome(verdict: Verdict): string {
  if (verdict.kind !== "allowed") return verdict.reason;
  return verdict.policy === undefined ? "allowed" : `allowed by ${verdict.policy}`;
}

function concerns(policy: Policy, local: Workload): boolean {
  if (policy.scope === "Global" || local.authorizationPolicies.includes(policyKey(policy))) return true;
  return policy.scope === "Namespace" && policy.namespace === local.namespace;
}

/** §4.3 once more, word for word, by looking at everything. */
function naive(policies: readonly Policy[], byKey: ReadonlyMap<string, Policy>, call: Call): Verdict["kind"] {
  const local = call.local ?? LOCAL;
  const enforced = policies.filter((policy) => concerns(policy, local) && !policy.dryRun);
  const matches = (policy: Policy) => {
    return policy.rules.some((clauses) =>
      clauses.every((list) => list.length === 0 || list.some((m) => matchHolds(m, call))),
    );
  };
  if (enforced.some((policy) => policy.action === "Deny" && matches(policy))) return "denied";
  if (local.authorizationPolicies.some((key) => !byKey.has(key))) return "wait";
  const allows = enforced.filter((policy) => policy.action === "Allow");
  return allows.length === 0 || allows.some(matches) ? "allowed" : "denied";
}

function matchHolds(m: PolicyMatch, call: Call): boolean {
  const { identity: who, source = "", destination = "", port = 0 } = call;
  const principal = who && `${who.trustDomain}/ns/${who.namespace}/sa/${who.serviceAccount}`;
  const text = (s: StringMatch, value: string) => {
    if (s.kind === "presence") return value !== "";
    if (s.kind === "exact") return value === s.value;
    return s.kind === "prefix" ? value.startsWith(s.value) : value.endsWith(s.value);
  };
  const holds = {
    namespaces: m.namespaces.some((s) => text(s, who?.namespace ?? "")),
    notNamespaces: m.notNamespaces.some((s) => text(s, who?.namespace ?? "")),
    principals: m.principals.some((s) => principal !== undefined && text(s, principal)),
    notPrincipals: m.notPrincipals.some((s) => principal !== undefined && text(s, principal)),
    serviceAccounts: m.serviceAccounts.some(
      (a) => who?.namespace === a.namespace && who.serviceAccount === a.serviceAccount,
    ),
    notServiceAccounts: m.notServiceAccounts.some(
      (a) => who?.namespace === a.namespace && who.serviceAccount === a.serviceAccount,
    ),
    sourceIps: m.sourceIps.some((range) => cidrContains(range, source)),
    notSourceIps: m.notSourceIps.some((range) => cidrContains(range, source)),
    destinationIps: m.destinationIps.some((range) => cidrContains(range, destination)),
    notDestinationIps: m.notDestinationIps.some((range) => cidrContains(range, destination)),
    destinationPorts: m.destinationPorts.includes(port),
    notDestinationPorts: m.notDestinationPorts.includes(port),
  };
  const fields = Object.entries(m).filter(([, values]: [string, readonly unknown[]]) => values.length > 0);
  if (fields.length === 0) return false;
  return fields.every(([name]) => holds[name as keyof typeof holds] !== name.startsWith("not"));
}

describe("a single match", () => {
  it("means what its fields say", () => {
    const who = fc.option(fc.constant(ALICE), { nil: undefined });
    fc.assert(
      fc.property(anyMatch, who, ip, fc.constantFrom(80, 8080), (m, identity, source, port) => {
        const call = { identity, source, destination: "10.0.0.2", port };
        assert.equal(judge([deny("d", [[[m]]])], call).kind === "denied", matchHolds(m, call));
      }),
      { numRuns: 1000 },
    );
  });
});
