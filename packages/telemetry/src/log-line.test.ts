import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { formatLine, quote, Timestamps } from "./log-line.ts";

const TIME = "2027-03-01T08:09:10.000123Z";

describe("a log line", () => {
  it("ends in a tab when it has no fields", () => {
    assert.equal(formatLine("plain", TIME, "info", "ztunnel", "ready"), `${TIME}\tinfo\tztunnel\tready\t\n`);
  });

  it("shows a scope without our own prefix, and JSON with it", () => {
    const fields = { url: "https://ca:15012", attempt: 2, retry: true, nothing: undefined };
    assert.equal(
      formatLine("plain", TIME, "warn", "ztunnel::ca", "failed", fields),
      `${TIME}\twarn\tca\tfailed\turl="https://ca:15012" attempt=2 retry=true\n`,
    );
    assert.equal(
      formatLine("json", TIME, "warn", "ztunnel::ca", "failed", fields),
      `{"level":"warn","time":"${TIME}","scope":"ztunnel::ca","message":"failed","url":"https://ca:15012","attempt":2,"retry":true}\n`,
    );
  });

  it("quotes what could be taken for something else, and leaves other scripts readable", () => {
    assert.equal(quote('a"b\\c\td\r\u0000\u2028'), String.raw`"a\"b\\c\td\r\u{0}\u{2028}"`);
    assert.equal(quote("Grüße 網格 🙂"), '"Grüße 網格 🙂"');
  });
});

describe("timestamps", () => {
  const at = Date.UTC(2027, 2, 1, 8, 9, 10);
  const cases: readonly [ms: number, text: string][] = [
    [at, "2027-03-01T08:09:10.000000Z"],
    [at + 0.25, "2027-03-01T08:09:10.000250Z"],
    [at + 999.999, "2027-03-01T08:09:10.999999Z"],
    [at + 1000, "2027-03-01T08:09:11.000000Z"],
    [at + 500, "2027-03-01T08:09:10.500000Z"],
  ];
  it("have microseconds, and may jump back", () => {
    const timestamps = new Timestamps();
    for (const [ms, text] of cases) assert.equal(timestamps.format(ms), text);
  });
});
