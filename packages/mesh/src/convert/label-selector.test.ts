import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type LabelSelector, matchesSelector } from "@tulle/base";
import { DEFAULT_MESH_SETTINGS, type MeshSettings, type ServiceScopeConfig } from "./context.ts";
import { LabelIndex } from "./key-index.ts";
import type { Labels } from "./kubernetes.ts";
import { isDiscovered } from "./label-selector.ts";
import { serviceScope } from "./visibility.ts";

const expression = (operator: string, ...values: readonly string[]): LabelSelector => ({
  matchExpressions: [{ key: "k", operator, values }],
});

describe("a label selector", () => {
  const cases: readonly (readonly [string, LabelSelector, Labels, boolean])[] = [
    ["empty", {}, {}, true],
    ["a label", { matchLabels: { k: "v" } }, { k: "v", l: "w" }, true],
    ["another value", { matchLabels: { k: "v" } }, { k: "w" }, false],
    ["a label that is missing", { matchLabels: { k: "v" } }, {}, false],
    ["In", expression("In", "a", "b"), { k: "b" }, true],
    ["In, another", expression("In", "a", "b"), { k: "c" }, false],
    ["In, missing", expression("In", "a"), {}, false],
    ["NotIn", expression("NotIn", "a"), { k: "b" }, true],
    ["NotIn, missing", expression("NotIn", "a"), {}, true],
    ["NotIn, one of them", expression("NotIn", "a"), { k: "a" }, false],
    ["Exists", expression("Exists"), { k: "" }, true],
    ["Exists, missing", expression("Exists"), {}, false],
    ["DoesNotExist", expression("DoesNotExist"), {}, true],
    ["DoesNotExist, there", expression("DoesNotExist"), { k: "a" }, false],
    ["an operator that is none", expression("in", "a"), { k: "a" }, false],
    ["both parts must hold", { matchLabels: { l: "w" }, ...expression("Exists") }, { k: "a" }, false],
  ];
  for (const [name, selector, labels, expected] of cases) {
    it(name, () => assert.equal(matchesSelector(selector, labels), expected));
  }
});

describe("what of the cluster is part of the mesh", () => {
  const selecting = (...discoverySelectors: readonly LabelSelector[]) => ({
    ...DEFAULT_MESH_SETTINGS,
    discoverySelectors,
  });

  it("is everything without selectors, else what one of them selects", () => {
    const namespace = { metadata: { name: "a", labels: { team: "x" } } };
    assert.equal(isDiscovered("a", undefined, selecting()), true);
    assert.equal(
      isDiscovered("a", namespace, selecting({ matchLabels: { team: "y" } }, { matchLabels: { team: "x" } })),
      true,
    );
    assert.equal(isDiscovered("a", namespace, selecting({ matchLabels: { team: "y" } })), false);
  });

  it("can be selected by the namespace's name, also where no API server labels it", () => {
    const byName = selecting({ matchLabels: { "kubernetes.io/metadata.name": "a" } });
    assert.deepEqual([isDiscovered("a", undefined, byName), isDiscovered("b", undefined, byName)], [true, false]);
  });
});

describe("the scope of a service", () => {
  const service = { metadata: { name: "s", namespace: "a", labels: { "istio.io/global": "true" } } };
  const namespace = { metadata: { name: "a", labels: { team: "x" } } };
  const byLabel: ServiceScopeConfig = {
    servicesSelector: { matchLabels: { "istio.io/global": "true" } },
    scope: "GLOBAL",
  };
  const elsewhere: ServiceScopeConfig = { ...byLabel, namespaceSelector: { matchLabels: { team: "y" } } };
  const cases: readonly (readonly [string, MeshSettings["serviceScopeConfigs"], string])[] = [
    ["is its own cluster", [], "LOCAL"],
    ["is the mesh when a rule says so", [byLabel], "GLOBAL"],
    ["is the mesh when any rule says so", [{ scope: "LOCAL" }, byLabel], "GLOBAL"],
    ["is its own cluster when the rule is for another namespace", [elsewhere], "LOCAL"],
    ["is the mesh for a rule that selects everything", [{ scope: "GLOBAL" }], "GLOBAL"],
  ];
  for (const [name, serviceScopeConfigs, expected] of cases) {
    it(name, () => {
      assert.equal(serviceScope(service, namespace, { ...DEFAULT_MESH_SETTINGS, serviceScopeConfigs }), expected);
    });
  }
});

describe("an index of labels", () => {
  it("finds what a selector selects, and forgets what is gone", () => {
    const index = new LabelIndex();
    index.set("p", "a", { app: "x", tier: "1" });
    index.set("q", "a", { app: "x", tier: "2" });
    index.set("r", "b", { app: "x" });
    const found = (selector: Labels, namespace?: string) => [...index.find(selector, namespace)].sort();
    assert.deepEqual(found({ app: "x" }, "a"), ["p", "q"]);
    assert.deepEqual(found({ app: "x", tier: "2" }, "a"), ["q"]);
    assert.deepEqual(found({ app: "x" }), ["p", "q", "r"]);
    assert.deepEqual([found({}, "a"), found({ app: "y" }, "a"), found({ app: "x" }, "c")], [[], [], []]);
    index.set("q", "a", { app: "y" });
    index.set("p", "a", undefined);
    assert.deepEqual([found({ app: "x" }, "a"), found({ app: "y" })], [[], ["q"]]);
  });
});
