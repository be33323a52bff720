import assert from "node:assert/strict";
import { isIP } from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import { canonicalIp, ipFromBytes, ipToBytes } from "./ip.ts";

test("an IPv4 address is exactly what node takes for one, and its bytes are its numbers", () => {
  const number = fc.constantFrom(
    "0",
    "1",
    "9",
    "10",
    "99",
    "100",
    "255",
    "256",
    "00",
    "01",
    "1000",
    "",
    "-1",
    "1e1",
    " 1",
    "x",
  );
  const dotted = fc.array(number, { minLength: 2, maxLength: 5 }).map((parts) => parts.join("."));
  fc.assert(
    fc.property(fc.oneof(dotted, fc.ipV4(), fc.string()), (text) => {
      const bytes = ipToBytes(text);
      assert.equal(bytes?.length === 4, isIP(text) === 4);
      if (bytes?.length === 4) assert.deepEqual([...bytes], text.split(".").map(Number));
    }),
    { numRuns: 2000 },
  );
});

test("every address survives the way through its bytes", () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
      const canonical = canonicalIp(text) ?? assert.fail(text);
      assert.equal(ipFromBytes(ipToBytes(canonical) ?? assert.fail(canonical)), canonical);
      assert.ok(isIP(canonical) > 0);
    }),
  );
  assert.deepEqual(["::ffff:10.0.0.1", "FD00::0:1", "0:0:0:0:0:0:0:0", "10.0.0.1"].map(canonicalIp), [
    "10.0.0.1",
    "fd00::1",
    "::",
    "10.0.0.1",
  ]);
});
