import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AddressOwners } from "./address-owners.ts";

describe("owners of addresses", () => {
  it("are remembered for a bounded number of addresses; the one forgotten counts as moved", () => {
    const seen: string[] = [];
    const owners = new AddressOwners((_network, ip, from, to) => seen.push(`${ip} ${from} ${to}`), 2);
    for (const ip of ["1", "2", "3"]) {
      owners.change("", ip, undefined, `pod-${ip}`);
      owners.change("", ip, `pod-${ip}`, undefined);
    }
    assert.deepEqual(seen, ["1 pod-1 undefined"]);
    owners.change("", "2", undefined, "pod-2");
    owners.change("", "3", undefined, "other");
    assert.deepEqual(seen, ["1 pod-1 undefined", "3 pod-3 other"]);
  });
});
