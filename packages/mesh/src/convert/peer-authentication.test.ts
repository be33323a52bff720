import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { authorize } from "../authorize.ts";
import { newWorkload } from "../defaults.ts";
import { dumpPolicy } from "../dump.ts";
import { MeshState } from "../state.ts";
import type { KubePolicy } from "./kubernetes.ts";
import {
  type PeerAuthenticationChange,
  PeerAuthentications,
  readPeerAuthentication,
  refusesPlaintext,
} from "./peer-authentication.ts";

const SETTINGS = { rootNamespace: "istio-system" };
const LABELS = { app: "reviews" };
const selector = { matchLabels: LABELS };
const STATIC = "istio-system/istio_converted_static_strict";

describe("PeerAuthentications decide on plaintext:", () => {
  /** Whether plaintext gets in on port 80 and on port 81: what the table of control-plane.md §2.8 comes down to. */
  const cases: readonly (readonly [name: string, policies: KubePolicy[], port80: boolean, port81: boolean])[] = [
    ["none", [], true, true],
    ["mesh strict", [root(mode("STRICT"))], false, false],
    ["namespace permissive under a strict mesh", [root(mode("STRICT")), own(mode("PERMISSIVE"))], true, true],
    ["namespace unset under a strict mesh", [root(mode("STRICT")), own(mode("UNSET"))], false, false],
    ["workload strict", [own({ selector, ...mode("STRICT") })], false, false],
    ["workload disabled under strict", [own(mode("STRICT")), own({ selector, ...mode("DISABLE") }, "w")], true, true],
    ["workload for others", [own({ selector: { matchLabels: { app: "x" } }, ...mode("STRICT") })], true, true],
    ["empty selector: namespace", [own({ selector: { matchLabels: {} }, ...mode("STRICT") })], false, false],
    ["another namespace's", [object(mode("STRICT"), "other", "ns")], true, true],
    ["strict, all ports strict", [own({ ...ports({ 80: "STRICT", 81: "STRICT" }), ...mode("STRICT") })], false, false],
    ["strict, one port permissive", [own({ ...ports({ 80: "PERMISSIVE" }), ...mode("STRICT") })], true, false],
    ["strict, one port disabled", [own({ ...ports({ 80: "DISABLE" }), ...mode("STRICT") })], true, false],
    ["strict, no port strict", [own({ ...ports({ 80: "PERMISSIVE", 81: "DISABLE" }), ...mode("STRICT") })], true, true],
    ["permissive, one port strict", [own({ ...ports({ 80: "STRICT" }), ...mode("PERMISSIVE") })], false, true],
    ["disabled, both strict", [own({ ...ports({ 80: "STRICT", 81: "STRICT" }), ...mode("DISABLE") })], false, false],
    ["permissive, no port strict", [own({ ...ports({ 80: "PERMISSIVE" }), ...mode("PERMISSIVE") })], true, true],
    ["permissive under strict", [own(mode("STRICT")), own({ selector, ...mode("PERMISSIVE") }, "w")], true, true],
    ["unset under strict, one port not", [own(mode("STRICT")), own(ports({ 80: "PERMISSIVE" }), "w")], true, false],
    ["unset under strict, all ports strict", [own(mode("STRICT")), own(ports({ 80: "STRICT" }), "w")], false, false],
    ["unset under permissive, one port strict", [own(ports({ 80: "STRICT" }))], false, true],
    ["unset, no ports, under strict", [own(mode("STRICT")), own({ selector }, "w")], false, false],
    ["unset, no ports, under nothing", [own({ selector }, "w")], true, true],
    ["port of an unset mode follows", [own({ ...ports({ 80: "UNSET" }), ...mode("STRICT") })], false, false],
    [
      "defect a: permissive workload with a strict port under a strict mesh",
      [root(mode("STRICT")), own({ ...ports({ 80: "STRICT" }), ...mode("PERMISSIVE") })],
      false,
      true,
    ],
    [
      "defect b: unset under strict with a disabled port",
      [own(mode("STRICT")), own(ports({ 80: "DISABLE" }), "w")],
      true,
      false,
    ],
    [
      "defect c: unset workload with a permissive port, unset namespace, strict mesh",
      [root(mode("STRICT")), own(mode("UNSET")), own(ports({ 80: "PERMISSIVE" }), "w")],
      true,
      false,
    ],
    ["selector in the root namespace means nothing", [root({ selector, ...mode("STRICT") })], true, true],
    ["ports without selector mean nothing", [own({ portLevelMtls: { 80: { mode: "STRICT" } } })], true, true],
    ["a mode that is none is strict", [own(mode("strict"))], false, false],
    ["a setting that cannot be read is strict", [own({ mtls: "STRICT" })], false, false],
    ["an unknown field of a setting is strict", [own({ mtls: { Mode: "PERMISSIVE" } })], false, false],
    ["a spec that cannot be read is strict", [own("x")], false, false],
    ["an unknown field is strict", [own({ ...mode("PERMISSIVE"), mtsl: {} })], false, false],
    ["a selector that cannot be read is strict for all", [own({ selector: [], ...mode("PERMISSIVE") })], false, false],
    ["ports that cannot be read are strict", [own({ selector, portLevelMtls: [80] })], false, false],
    ["a port that is none is strict for all", [own(ports({ http: "STRICT" }))], false, false],
    ["port 0 is none", [own(ports({ 0: "PERMISSIVE" }))], false, false],
    ["a port's mode that is none is strict", [own(ports({ 80: "permissive" }))], false, true],
  ];
  for (const [name, policies, port80, port81] of cases) {
    it(name, () => {
      for (const order of [policies, policies.toReversed()]) {
        assert.deepEqual(plaintextAllowed(fed(order)), [port80, port81]);
        assert.deepEqual(plaintextAllowed(new PeerAuthentications(order.map(read), SETTINGS)), [port80, port81]);
      }
    });
  }
});

describe("PeerAuthentications", () => {
  it("are written as Istio writes them", () => {
    const exceptPorts = own({ ...ports({ 8080: "PERMISSIVE", 90: "DISABLE" }), ...mode("STRICT") }, "echo-port");
    const someStrict = own({ ...ports({ 8080: "STRICT", 90: "STRICT" }), ...mode("PERMISSIVE") }, "strict-ports");
    const plaintext = { notPrincipals: [{ Presence: [] }] };
    const named = (name: string, namespace: string, rules: unknown) => {
      return { action: "Deny", dryRun: false, name, namespace, rules, scope: "WorkloadSelector" };
    };
    assert.deepEqual(fed([exceptPorts, someStrict]).policies().map(dumpPolicy).sort(byName), [
      named("converted_peer_authentication_echo-port", "bookinfo", [
        [[plaintext], [{ notDestinationPorts: [90] }], [{ notDestinationPorts: [8080] }]],
      ]),
      named("converted_peer_authentication_strict-ports", "bookinfo", [
        [[{ destinationPorts: [90], ...plaintext }]],
        [[{ destinationPorts: [8080], ...plaintext }]],
      ]),
      named("istio_converted_static_strict", "istio-system", [[[plaintext]]]),
    ]);
  });

  it("attach either the static policy or the converted one, never both", () => {
    const strict = own(mode("STRICT"));
    const exempt = own(ports({ 80: "PERMISSIVE" }), "w");
    assert.equal(fed([]).attached("bookinfo", LABELS), undefined);
    assert.equal(fed([strict]).attached("bookinfo", LABELS), STATIC);
    assert.equal(fed([strict, exempt]).attached("bookinfo", {}), STATIC);
    const converted = "bookinfo/converted_peer_authentication_w";
    assert.equal(fed([strict, exempt]).attached("bookinfo", LABELS), converted);
  });

  it("of one level: the oldest counts, and the others are told", () => {
    for (const policySelector of [undefined, selector]) {
      const strict = dated("b", "2026-01-01T00:00:00Z", { selector: policySelector, ...mode("STRICT") });
      const open = dated("a", "2026-01-02T00:00:00Z", { selector: policySelector, ...mode("PERMISSIVE") });
      for (const order of [
        [strict, open],
        [open, strict],
      ]) {
        const peers = fed(order);
        assert.equal(peers.attached("bookinfo", LABELS), STATIC);
        peers.remove("bookinfo", "b");
        assert.equal(peers.attached("bookinfo", LABELS), undefined);
      }
    }
  });

  it("tell where a pod refuses plaintext", () => {
    const peers = fed([own(mode("STRICT")), own(ports({ 90: "DISABLE", 80: "PERMISSIVE" }), "w")]);
    const effective = peers.effectiveMode("bookinfo", LABELS);
    assert.deepEqual(effective, { base: "strict", exceptions: [80, 90] });
    assert.deepEqual([refusesPlaintext(effective, 80), refusesPlaintext(effective, 81)], [false, true]);
    assert.deepEqual(peers.effectiveMode("bookinfo", {}), { base: "strict", exceptions: [] });
    assert.deepEqual(peers.effectiveMode("other", {}), { base: "permissive", exceptions: [] });
    const some = fed([own(ports({ 80: "STRICT" }), "w")]).effectiveMode("bookinfo", LABELS);
    assert.deepEqual([refusesPlaintext(some, 80), refusesPlaintext(some, 81)], [true, false]);
  });
});

describe("one PeerAuthentication that changes", () => {
  it("tells whom it touches and which policies follow", () => {
    const peers = new PeerAuthentications([], SETTINGS);
    const steps: readonly (readonly [string, () => PeerAuthenticationChange, unknown, string[], string[]])[] = [
      ["first", () => peers.put(own(ports({ 80: "STRICT" }), "w")), NS, [W, STATIC], []],
      ["same again", () => peers.put(own(ports({ 80: "STRICT" }), "w")), "none", [], []],
      ["another port", () => peers.put(own(ports({ 81: "STRICT" }), "w")), NS, [W], []],
      ["other namespace", () => peers.put(object(mode("STRICT"), "other", "x")), { namespace: "other" }, [], []],
      ["strict mesh: the port is nothing special", () => peers.put(root(mode("STRICT"))), "all", [], [W]],
      ["unset mesh", () => peers.put(root(mode("UNSET"))), "all", [W], []],
      ["permissive mesh: another parent", () => peers.put(root(mode("PERMISSIVE"))), "all", [], []],
      ["mesh goes", () => peers.remove("istio-system", "mesh"), "all", [], []],
      ["namespace strict", () => peers.put(own(mode("STRICT"))), NS, [], [W]],
      ["namespace goes", () => peers.remove("bookinfo", "ns"), NS, [W], []],
      ["unknown goes", () => peers.remove("bookinfo", "ns"), "none", [], []],
      ["workload goes", () => peers.remove("bookinfo", "w"), NS, [], [W]],
      ["last goes", () => peers.remove("other", "x"), { namespace: "other" }, [], [STATIC]],
    ];
    for (const [name, step, affected, puts, removes] of steps) {
      const change = step();
      assert.deepEqual(change.affected, affected, name);
      assert.deepEqual(
        change.puts.map((policy) => `${policy.namespace}/${policy.name}`),
        puts,
        name,
      );
      assert.deepEqual(change.removes, removes, name);
    }
    assert.deepEqual([peers.policies(), peers.statuses()], [[], []]);
  });

  it("comes to what all of them at once come to", () => {
    const modes = ["STRICT", "PERMISSIVE", "UNSET"].map(mode);
    const specs = [...modes, ...modes.map((one) => ({ ...ports({ 80: "STRICT", 81: "DISABLE" }), ...one }))];
    const peers = new PeerAuthentications([], SETTINGS);
    const present = new Map<string, KubePolicy>();
    let seed = 7;
    const next = (below: number) => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return Math.floor((seed / 2147483648) * below);
    };
    const followed = new Map<string, string>();
    for (let i = 0; i < 300; i++) {
      const [namespace, name] = [["istio-system", "bookinfo", "other"][next(3)] ?? "", ["a", "b", "c"][next(3)] ?? ""];
      const policy = object(specs[next(specs.length)], namespace, name);
      const before = ["bookinfo", "other"].map((ns) => peers.attached(ns, LABELS));
      const gone = next(3) === 0;
      const { puts, removes, affected } = gone ? peers.remove(namespace, name) : peers.put(policy);
      if (gone) present.delete(`${namespace}/${name}`);
      else present.set(`${namespace}/${name}`, policy);
      for (const one of puts) followed.set(`${one.namespace}/${one.name}`, JSON.stringify(one));
      for (const key of removes) followed.delete(key);
      const whole = new PeerAuthentications([...present.values()].map(read), SETTINGS);
      const wanted = whole.policies().map((one) => [`${one.namespace}/${one.name}`, JSON.stringify(one)] as const);
      assert.deepEqual(Object.fromEntries(followed), Object.fromEntries(wanted));
      assert.deepEqual(peers.statuses().toSorted(byName), whole.statuses().toSorted(byName));
      for (const [index, ns] of ["bookinfo", "other"].entries()) {
        assert.equal(peers.attached(ns, LABELS), whole.attached(ns, LABELS));
        const untouched = affected === "none" || (affected !== "all" && affected.namespace !== ns);
        if (untouched) assert.equal(peers.attached(ns, LABELS), before[index]);
      }
    }
  });
});

describe("a PeerAuthentication says in its status", () => {
  const cases: readonly (readonly [name: string, policies: KubePolicy[], condition: string])[] = [
    ["that it holds", [own(mode("STRICT"))], "True Accepted attached to ztunnel"],
    [
      "that DISABLE is not quite that",
      [own(mode("DISABLE"))],
      "True UnsupportedValue attached to ztunnel; DISABLE counts as PERMISSIVE, for ztunnel never refuses mutual TLS",
    ],
    [
      "that ports need a selector",
      [own({ portLevelMtls: { 80: { mode: "STRICT" } } })],
      "True UnsupportedValue attached to ztunnel; portLevelMtls has no effect without a selector",
    ],
    [
      "that it is too late",
      [dated("z", "2026-01-02T00:00:00Z", mode("STRICT")), dated("a", "2026-01-01T00:00:00Z", {})],
      "False Superseded bookinfo/a is older and holds for the namespace: remove one of them",
    ],
    [
      "that it is in the wrong place",
      [root({ selector, ...mode("STRICT") })],
      "False NoEffect a selector has no meaning in istio-system: move the policy to its workloads",
    ],
    [
      "what cannot be read",
      [own({ mtls: { mode: "strict" }, selector: [], x: 1 })],
      "False Invalid cannot be read (x, selector, mtls.mode): it counts as STRICT there",
    ],
    [
      "which port cannot be read",
      [own(ports({ 80: "strict" }))],
      "False Invalid cannot be read (portLevelMtls.80): it counts as STRICT there",
    ],
  ];
  for (const [name, policies, condition] of cases) {
    it(name, () => {
      const [first] = policies;
      const status = fed(policies)
        .statuses()
        .find((one) => one.name === first?.metadata?.name);
      const [one] = status?.conditions ?? [];
      assert.equal(`${one?.status} ${one?.reason} ${one?.message}`, condition);
      assert.deepEqual([status?.manager, one?.type], ["istio-ambient-ztunnel-policy", "ZtunnelAccepted"]);
    });
  }

  it("anew when another takes its place, and when its generation changes", () => {
    const peers = fed([dated("young", "2026-01-02T00:00:00Z", {}), dated("old", "2026-01-01T00:00:00Z", {})]);
    const said = ({ statuses }: PeerAuthenticationChange) =>
      statuses.map(({ name, generation, conditions: [one] }) => [name, generation, one?.reason]);
    assert.deepEqual(said(peers.remove("bookinfo", "old")), [["young", undefined, "Accepted"]]);
    assert.deepEqual(said(peers.put(dated("young", "2026-01-02T00:00:00Z", {}))), []);
    const changed = dated("young", "2026-01-02T00:00:00Z", {});
    const generation = { ...changed, metadata: { ...changed.metadata, generation: 2 } };
    assert.deepEqual(said(peers.put(generation)), [["young", 2, "Accepted"]]);
  });
});

const NS = { namespace: "bookinfo" };
const W = "bookinfo/converted_peer_authentication_w";

function mode(word: string) {
  return { mtls: { mode: word } };
}

function ports(entries: Record<string, string>) {
  const portLevelMtls = Object.fromEntries(Object.entries(entries).map(([port, word]) => [port, { mode: word }]));
  return { selector, portLevelMtls };
}

function object(spec: unknown, namespace: string, name: string): KubePolicy {
  return { metadata: { name, namespace }, spec };
}

function root(spec: unknown): KubePolicy {
  return object(spec, "istio-system", "mesh");
}

function own(spec: unknown, name = "ns"): KubePolicy {
  return object(spec, "bookinfo", name);
}

function dated(name: string, creationTimestamp: string, spec: unknown): KubePolicy {
  return { metadata: { name, namespace: "bookinfo", creationTimestamp }, spec };
}

function read(policy: KubePolicy) {
  return readPeerAuthentication(policy, SETTINGS);
}

function fed(policies: readonly KubePolicy[]): PeerAuthentications {
  const peers = new PeerAuthentications([], SETTINGS);
  for (const policy of policies) peers.put(policy);
  return peers;
}

function byName<T extends { readonly name?: unknown; readonly namespace?: unknown }>(a: T, b: T): number {
  return `${String(a.namespace)}/${String(a.name)}` < `${String(b.namespace)}/${String(b.name)}` ? -1 : 1;
}

/** As ztunnel judges it: on ports 80 and 81 of a workload with LABELS. Mutual TLS is never refused. */
function plaintextAllowed(peers: PeerAuthentications): readonly boolean[] {
  const attached = peers.attached("bookinfo", LABELS);
  const local = newWorkload({
    uid: "w",
    name: "w",
    namespace: "bookinfo",
    addresses: ["10.0.0.5"],
    authorizationPolicies: attached === undefined ? [] : [attached],
  });
  const state = new MeshState();
  for (const policy of peers.policies()) state.apply({ kind: "policy", policy });
  state.apply({ kind: "workload", workload: local });
  const allowed = (port: number, mutual: boolean) => {
    const identity = mutual ? { trustDomain: "cluster.local", namespace: "a", serviceAccount: "b" } : undefined;
    const source = { ip: "10.0.0.1", port: 1 };
    const verdict = authorize(state, { identity, source, destination: { ip: "10.0.0.5", port }, local });
    assert.notEqual(verdict.kind, "wait", "names a policy that is not there");
    return verdict.kind === "allowed";
  };
  assert.deepEqual([allowed(80, true), allowed(81, true)], [true, true]);
  const plaintext = [allowed(80, false), allowed(81, false)];
  const effective = peers.effectiveMode("bookinfo", LABELS);
  assert.deepEqual(
    [80, 81].map((port) => !refusesPlaintext(effective, port)),
    plaintext,
  );
  return plaintext;
}
