import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { LogLevel } from "@tulle/base";
import { DEFAULT_FILTER, LogFilter } from "./log-filter.ts";

function valid(parsed: ReturnType<typeof LogFilter.parse>): LogFilter {
  assert.ok(parsed instanceof LogFilter);
  return parsed;
}

function filter(text: string): LogFilter {
  return valid(LogFilter.parse(text));
}

describe("a log filter", () => {
  const cases: readonly [text: string, level: LogLevel, scope: string, written: boolean][] = [
    ["info", "info", "ztunnel", true],
    ["info", "debug", "ztunnel", false],
    ["off", "error", "access", false],
    ["INFO", "info", "access", true],
    ["4", "debug", "access", true],
    ["access=off,info", "error", "access", false],
    ["access=off,info", "info", "ztunnel", true],
    ["ztunnel::xds=debug,warn", "debug", "ztunnel::xds", true],
    ["ztunnel::xds=debug,warn", "debug", "ztunnel::xds::client", true],
    ["ztunnel::xds=debug,warn", "info", "ztunnel::ca", false],
    // The name as the plain log shows it works too.
    ["xds=debug,warn", "debug", "ztunnel::xds", true],
    ["ztunnel=trace,ztunnel::xds=error", "warn", "ztunnel::xds", false],
    ["ztunnel::xds:debug,warn", "debug", "ztunnel::xds", true],
    ["access:debug", "debug", "access", true],
    ["access=debug", "error", "ztunnel", false],
    ["", "error", "ztunnel", true],
    ["", "warn", "ztunnel", false],
  ];
  for (const [text, level, scope, written] of cases) {
    it(`"${text}" ${written ? "writes" : "drops"} ${level} of ${scope}`, () => {
      assert.equal(filter(text).enabled(level, scope), written);
    });
  }

  for (const text of [
    "loud",
    "access=loud",
    "access=",
    "=info",
    "toString",
    "access=constructor",
    "a b=info",
    "info,x",
  ]) {
    it(`refuses "${text}" and says which part is wrong`, () => {
      const parsed = LogFilter.parse(text);
      assert.ok(!(parsed instanceof LogFilter));
      assert.equal(parsed.invalid, text.split(",").at(-1));
    });
  }

  it("prints its directives, the most particular first, and the default as ztunnel does", () => {
    assert.equal(LogFilter.default.toString(), DEFAULT_FILTER);
    assert.equal(String(filter("info,access=debug,xds::client=warn")), "xds::client=warn,access=debug,info");
  });

  it("takes further directives on top", () => {
    assert.equal(String(valid(LogFilter.default.with("debug"))), "hickory_server::server=off,debug");
    assert.equal(String(valid(LogFilter.default.with("access:warn"))), "hickory_server::server=off,access=warn,info");
    assert.deepEqual(LogFilter.default.with("nonsense"), { invalid: "nonsense" });
  });

  it("starts from RUST_LOG, or info without it", () => {
    assert.equal(String(valid(LogFilter.fromEnvironment(undefined))), DEFAULT_FILTER);
    assert.equal(
      String(valid(LogFilter.fromEnvironment("access=debug,warn"))),
      "hickory_server::server=off,access=debug,warn",
    );
  });
});
