import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { prettyJson } from "./pretty-json.ts";

function text(value: unknown): string {
  return [...prettyJson(value)].join("");
}

describe("pretty JSON", () => {
  it("sorts keys as text, numbers too, and leaves undefined out", () => {
    assert.equal(
      text({ b: [1, "x", null, true], a: { 443: 1, 15012: 2, z: undefined }, empty: {}, none: [], 'q"': "é\n" }),
      `{
  "a": {
    "15012": 2,
    "443": 1
  },
  "b": [
    1,
    "x",
    null,
    true
  ],
  "empty": {},
  "none": [],
  "q\\"": "é\\n"
}
`,
    );
  });

  it("asks objects how they want to be shown", () => {
    assert.deepEqual(JSON.parse(text([{ toJSON: () => ({ File: "x" }) }])), [{ File: "x" }]);
  });

  it("gives the same as JSON.stringify for everything else, in pieces", () => {
    const value = Array.from({ length: 5000 }, (_, i) => ({ a: i, b: [String(i), { c: null }], d: {} }));
    const pieces = [...prettyJson(value)];
    assert.ok(pieces.length > 5);
    assert.equal(pieces.join(""), `${JSON.stringify(value, null, 2)}\n`);
  });
});
