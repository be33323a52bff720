import assert from "node:assert/strict";
import { test } from "node:test";
import { parseCidr } from "@tulle/base";
import { type Holder, RangeHolders } from "./range-holders.ts";

const cidr = (text: string) => parseCidr(text) ?? assert.fail();
const pods = (namespace: string): Holder => ({ kind: "Pod", namespace, name: "", created: 0, private: false });
const machine = (namespace: string, created: number): Holder => ({
  kind: "WorkloadEntry",
  namespace,
  name: "w",
  created,
  private: false,
});

function holders(...ranges: readonly string[]): RangeHolders {
  const all = new RangeHolders();
  for (const range of ranges) all.add(range, cidr(range));
  return all;
}

test("ranges that come later are told of what was there before", () => {
  const all = holders("10.0.0.0/8");
  all.count(() => [["10.0.0.1", pods("a")]]);
  all.add("10.0.0.0/24", cidr("10.0.0.0/24"));
  assert.deepEqual(all.leaders("10.0.0.0/24"), []);
  all.count(() => [["10.0.0.1", pods("a")]]);
  for (const range of ["10.0.0.0/8", "10.0.0.0/24"]) assert.deepEqual(all.leaders(range), [pods("a")], range);
  all.move(pods("a"), ["10.0.0.1"], []);
  for (const range of ["10.0.0.0/8", "10.0.0.0/24"]) assert.deepEqual(all.leaders(range), [], range);
});

test("only ranges whose leaders change are named", () => {
  const all = holders("10.0.0.0/8", "10.0.0.0/24", "fd00::/8");
  all.count(() => []);
  assert.deepEqual(all.move(pods("b"), [], ["10.0.0.1", "10.1.0.1"]).toSorted(), ["10.0.0.0/24", "10.0.0.0/8"]);
  assert.deepEqual(all.move(pods("b"), [], ["10.0.0.2"]), [], "a further pod of the namespace");
  assert.deepEqual(all.move(pods("c"), [], ["10.1.0.2"]), ["10.0.0.0/8"], "the first of another one");
  assert.deepEqual(all.move(pods("d"), [], ["10.1.0.3"]), [], "a third decides nothing");
  assert.deepEqual(all.move(pods("b"), ["10.0.0.1"], []), []);
  assert.deepEqual(all.move(pods("b"), ["10.0.0.2"], []), ["10.0.0.0/24"]);
  assert.deepEqual(all.leaders("10.0.0.0/8"), [pods("b"), pods("c")]);
  assert.deepEqual(all.move(machine("b", 2), [], ["fd00::1"]), ["fd00::/8"]);
  assert.deepEqual(all.move(machine("a", 1), [], ["fd00::2"]), ["fd00::/8"]);
  assert.deepEqual(all.leaders("fd00::/8"), [machine("a", 1), machine("b", 2)]);
});

test("an address that is given twice counts once, and one that stays is not counted again", () => {
  const all = holders("10.0.0.0/8");
  all.count(() => []);
  all.move(pods("a"), [], ["10.0.0.1", "10.0.0.1"]);
  all.move(pods("a"), ["10.0.0.1"], ["10.0.0.1", "10.0.0.2"]);
  all.move(pods("a"), ["10.0.0.1", "10.0.0.2"], []);
  assert.deepEqual(all.leaders("10.0.0.0/8"), []);
});

test("ranges that nobody wants any more are forgotten, counted or not", () => {
  const all = holders("10.0.0.0/8");
  all.count(() => []);
  all.add("fd00::/8", cidr("fd00::/8"));
  all.remove("10.0.0.0/8");
  all.remove("fd00::/8");
  all.remove("10.0.0.0/9");
  assert.equal(all.size, 0);
  assert.deepEqual(all.move(pods("a"), [], ["10.0.0.1", "fd00::1"]), []);
});
