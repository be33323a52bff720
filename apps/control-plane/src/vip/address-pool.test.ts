import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseCidr } from "@tulle/base";
import { createAddressPool, lastOf } from "./address-pool.ts";

describe("a pool of addresses", () => {
  it("hands them out one after the other, without the first and, in IPv4, the last", () => {
    const pool = poolOf("10.0.0.0/29");
    assert.equal(pool.size, 6n);
    const got = Array.from({ length: 6 }, () => pool.next(() => true));
    assert.deepEqual(got, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    assert.equal(poolOf("fd00::/126").size, 3n);
    assert.deepEqual(
      poolOf("2001:2::/48").next(() => true),
      "2001:2::1",
    );
  });

  it("wraps once and then says that there is none", () => {
    const pool = poolOf("10.0.0.0/29");
    for (let i = 0; i < 4; i++) pool.next(() => true);
    assert.equal(
      pool.next((ip) => ip === "10.0.0.2"),
      "10.0.0.2",
    );
    assert.equal(
      pool.next((ip) => ip === "10.0.0.2"),
      "10.0.0.2",
    );
    assert.equal(
      pool.next(() => false),
      undefined,
    );
    assert.equal(
      pool.next(() => true),
      "10.0.0.3",
    );
  });

  it("leaps over what is reserved, to the very end", () => {
    const pool = poolOf("2001:2::/48");
    const reserved = parseCidr("2001:2::/49") ?? assert.fail();
    const skip = (ip: string) => (ip.startsWith("2001:2:0:8") ? undefined : lastOf(reserved));
    assert.equal(
      pool.next(() => true, skip),
      "2001:2:0:8000::",
    );
    const all = poolOf("10.0.0.0/24");
    assert.equal(
      all.next(
        () => true,
        () => "10.0.0.255",
      ),
      undefined,
    );
  });

  it("goes on behind what is in use", () => {
    const pool = poolOf("10.0.0.0/24");
    for (const ip of ["10.0.0.9", "10.0.0.4", "192.168.0.1", "fd00::1", "10.0.0.0"]) pool.passed(ip);
    assert.equal(
      pool.next(() => true),
      "10.0.0.10",
    );
    pool.passed("10.0.0.254");
    assert.equal(
      pool.next(() => true),
      "10.0.0.1",
    );
  });

  it("knows what it holds", () => {
    const pool = poolOf("10.0.0.0/24");
    const held = ["10.0.0.0", "10.0.0.1", "10.0.0.254", "10.0.0.255", "10.0.1.1", "::1", "x"].map((ip) => pool.has(ip));
    assert.deepEqual(held, [false, true, true, false, false, false, false]);
    const empty = poolOf("10.0.0.1/32");
    assert.deepEqual([empty.size, empty.next(() => true)], [0n, undefined]);
  });
});

function poolOf(text: string) {
  return createAddressPool(parseCidr(text) ?? assert.fail());
}
