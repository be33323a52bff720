import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { isLocalHost } from "./local-host.ts";

describe("a Host header", () => {
  const cases: readonly [host: string, local: boolean][] = [
    ["localhost", true],
    ["LocalHost:15000", true],
    ["127.0.0.1", true],
    ["127.0.0.1:15000", true],
    ["10.1.2.3:80", true],
    ["[::1]", true],
    ["[::1]:15000", true],
    ["[fd00::1]", true],
    ["", false],
    ["evil.example", false],
    ["localhost.evil.example", false],
    ["evil.example:15000", false],
    ["127.0.0.1.evil.example", false],
    ["127.0.0.1.", false],
    ["2130706433", false],
    ["0x7f.1", false],
    ["127.1", false],
    ["::1", false],
    ["[::1", false],
    ["[evil.example]", false],
    ["[127.0.0.1]", false],
    ["localhost:evil", false],
    ["localhost:99999", false],
    ["user@localhost", false],
    ["localhost ", false],
    ["localhost\t", false],
  ];
  for (const [host, local] of cases) {
    it(`"${host}" is ${local ? "" : "not "}local`, () => assert.equal(isLocalHost(host), local));
  }
});
