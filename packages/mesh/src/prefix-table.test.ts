import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Cidr, cidrContains } from "@tulle/base";
import * as fc from "fast-check";
import { cidr, ip } from "../test/arbitraries.ts";
import { PrefixTable } from "./prefix-table.ts";

describe("a table of ranges", () => {
  it("finds what a look at every range would find, longest first, also after removals", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(cidr, fc.boolean()), { maxLength: 20 }), ip, (ranges, address) => {
        const table = new PrefixTable<Cidr>();
        for (const [range] of ranges) table.add(range, range);
        const kept = ranges.filter(([range, removed]) => {
          if (removed) table.remove(range, range);
          return !removed;
        });
        const found: Cidr[] = [];
        const lengths: number[] = [];
        table.visit(address, (value, bits) => {
          found.push(value);
          lengths.push(bits);
        });
        const expected = kept.map(([range]) => range).filter((range) => cidrContains(range, address));
        assert.deepEqual(new Set(found), new Set(expected));
        assert.equal(found.length, expected.length);
        assert.deepEqual(
          lengths,
          lengths.toSorted((a, b) => b - a),
        );
        for (const [range] of kept) table.remove(range, range);
        assert.ok(table.empty);
      }),
      { numRuns: 300 },
    );
  });
});
