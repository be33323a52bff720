import assert from "node:assert/strict";
import { test } from "node:test";
import { reserveRange, touches } from "./address-range.ts";

const cases: readonly (readonly [route: string, touches: boolean])[] = [
  ["10.201.0.0/17", true],
  ["10.201.5.6", true],
  ["10.0.0.0/8", true],
  ["10.200.0.0/15", true],
  ["10.202.0.0/16", false],
  ["192.168.0.0/16", false],
  ["0.0.0.0/0", false],
  ["fd00::/64", false],
];

for (const [route, expected] of cases) {
  test(`a route to ${route} ${expected ? "keeps" : "does not keep"} 10.201.0.0/16 from being used`, () => {
    assert.equal(touches(route, 201), expected);
  });
}

test("two meshes that start at the same time get different ranges, and a range can be had again", async () => {
  const [a, b] = await Promise.all([reserveRange(), reserveRange()]);
  assert.notEqual(a.plan.gateway.v4, b.plan.gateway.v4);
  a.release();
  const c = await reserveRange();
  assert.equal(c.plan.gateway.v4, a.plan.gateway.v4);
  b.release();
  c.release();
});
