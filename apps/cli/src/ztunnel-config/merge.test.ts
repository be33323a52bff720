import assert from "node:assert/strict";
import { test } from "node:test";
import { mergeNodes } from "./merge.ts";

interface Entry {
  readonly name: string;
  readonly version?: number;
}

const merge = (nodes: Readonly<Record<string, readonly Entry[]>>) =>
  mergeNodes(
    Object.entries(nodes).map(([node, entries]) => ({ node, entries })),
    ({ name }) => name,
  );

test("nodes that know the same make one list without differences", () => {
  const { entries, differences } = merge({ n1: [{ name: "a" }, { name: "b" }], n2: [{ name: "b" }, { name: "a" }] });
  assert.deepEqual(entries, [{ name: "a" }, { name: "b" }]);
  assert.deepEqual(differences, []);
});

test("a difference names the node that the shown version is from, whichever it is", () => {
  const { entries, differences } = merge({
    n1: [],
    n2: [{ name: "a", version: 1 }],
    n3: [{ name: "a", version: 2 }],
  });
  assert.deepEqual(entries, [{ name: "a", version: 1 }]);
  assert.deepEqual(differences, ["n3 knows another a than n2", "n1 does not know a"]);
});

test("many differences end with a number", () => {
  const many = Array.from({ length: 13 }, (_, i) => ({ name: `e${i}` }));
  const { differences } = merge({ n1: many, n2: [] });
  assert.equal(differences.length, 11);
  assert.equal(differences[10], "and 3 more");
});
