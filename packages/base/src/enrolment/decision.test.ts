import assert from "node:assert/strict";
import { test } from "node:test";
import { decide, type EnrolmentNamespace, type EnrolmentPod, type EnrolmentSettings } from "./decision.ts";
import type { Labels } from "../label-selector.ts";
import { DEFAULT_ENABLEMENT, readEnablement, readExcludedNamespaces } from "./selector.ts";

const MODE = "istio.io/dataplane-mode";
const SETTINGS: EnrolmentSettings = {
  selectors: DEFAULT_ENABLEMENT,
  excludeNamespaces: new Set(["kube-system"]),
  systemNamespace: "istio-system",
};

interface Case {
  readonly pod?: string;
  readonly ns?: string;
  readonly home?: string;
  readonly labels?: Labels;
  readonly annotations?: Labels;
  readonly name?: string;
  readonly hostNetwork?: boolean;
}

function decisionOf(one: Case, settings = SETTINGS): string {
  const home = one.home ?? "default";
  const labels = { ...one.labels, ...(one.pod === undefined ? {} : { [MODE]: one.pod }) };
  const pod: EnrolmentPod = {
    metadata: { name: one.name ?? "p", namespace: home, labels, annotations: one.annotations ?? {} },
    spec: { hostNetwork: one.hostNetwork ?? false },
  };
  const namespace: EnrolmentNamespace = {
    metadata: { labels: one.ns === undefined ? {} : { [MODE]: one.ns } },
  };
  return decide(pod, namespace, settings).kind;
}

const CASES: readonly (readonly [what: string, one: Case, kind: string])[] = [
  ["nobody asks", {}, "leave"],
  ["the namespace asks", { ns: "ambient" }, "enrol"],
  ["the pod asks", { pod: "ambient" }, "enrol"],
  ["both ask", { pod: "ambient", ns: "ambient" }, "enrol"],
  ["the namespace asks, the pod says no", { pod: "none", ns: "ambient" }, "leave"],
  ["the pod asks, the namespace says no", { pod: "ambient", ns: "none" }, "enrol"],
  ["the pod says something else in an ambient namespace", { pod: "sidecar", ns: "ambient" }, "enrol"],
  ["the namespace says something else", { ns: "Ambient" }, "leave"],
  ["on the host's network", { pod: "ambient", ns: "ambient", hostNetwork: true }, "leave"],
  ["with a sidecar", { pod: "ambient", annotations: { "sidecar.istio.io/status": "{}" } }, "leave"],
  ["in an excluded namespace", { pod: "ambient", ns: "ambient", home: "kube-system" }, "leave"],
  ["a ztunnel", { pod: "ambient", home: "istio-system", labels: { app: "ztunnel" } }, "leave"],
  ["called ztunnel elsewhere", { pod: "ambient", labels: { app: "ztunnel" } }, "enrol"],
  ["a node agent", { ns: "ambient", home: "istio-system", name: "istio-cni-node-abcde" }, "leave"],
  ["called like a node agent elsewhere", { ns: "ambient", name: "istio-cni-node-abcde" }, "enrol"],
  ["another pod of an ambient system namespace", { ns: "ambient", home: "istio-system", name: "waypoint" }, "enrol"],
];
for (const [what, one, kind] of CASES) {
  test(`enrolment, ${what}: ${kind}`, () => assert.equal(decisionOf(one), kind));
}

test("without its namespace nothing can be said of a pod, except that some never belong into the mesh", () => {
  const pod = (home: string): EnrolmentPod => ({ metadata: { name: "p", namespace: home } });
  assert.equal(decide(pod("default"), undefined, SETTINGS).kind, "unknown");
  assert.equal(decide(pod("kube-system"), undefined, SETTINGS).kind, "leave");
});

test("other selectors than the default ones decide as Kubernetes reads them", () => {
  const selectors = readEnablement([
    {
      podSelector: { matchExpressions: [{ key: "tier", operator: "In", values: ["a", "b"] }] },
      namespaceSelector: { matchExpressions: [{ key: MODE, operator: "Exists" }] },
    },
  ]);
  const settings = { ...SETTINGS, selectors };
  assert.equal(decisionOf({ labels: { tier: "a" }, ns: "x" }, settings), "enrol");
  assert.equal(decisionOf({ labels: { tier: "c" }, ns: "x" }, settings), "leave");
  assert.equal(decisionOf({ labels: { tier: "a" } }, settings), "leave");
  assert.equal(decisionOf({ pod: "ambient" }, settings), "leave");
});

test("a label that is only an object's own property by descent does not exist", () => {
  const selectors = readEnablement([{ podSelector: { matchExpressions: [{ key: "toString", operator: "Exists" }] } }]);
  assert.equal(decisionOf({}, { ...SETTINGS, selectors }), "leave");
});

test("excluded namespaces are a comma list", () => {
  assert.deepEqual([...readExcludedNamespaces(undefined)], ["kube-system"]);
  assert.deepEqual([...readExcludedNamespaces("a, b")], ["a", "b"]);
  assert.throws(() => readExcludedNamespaces("a,,b"), /an empty name/);
});

test("a selector that is not understood is refused, whole", () => {
  const wrong: readonly (readonly [unknown, RegExp])[] = [
    [[], /must be a list/],
    [{}, /must be a list/],
    [["x"], /\[0\] must be an object/],
    [[{ podSelektor: {} }], /podSelektor is not a field/],
    [[{ podSelector: { matchLabels: { a: 1 } } }], /matchLabels\.a must be a string/],
    [[{ podSelector: { matchExpressions: [{ key: "a", operator: "in", values: ["b"] }] } }], /operator must be one of/],
    [[{ podSelector: { matchExpressions: [{ key: "a", operator: "In" }] } }], /values must not be empty/],
    [
      [{ podSelector: { matchExpressions: [{ key: "a", operator: "Exists", values: ["b"] }] } }],
      /values must be empty/,
    ],
  ];
  for (const [value, message] of wrong) assert.throws(() => readEnablement(value), message);
});
