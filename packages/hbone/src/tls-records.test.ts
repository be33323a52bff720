import assert from "node:assert/strict";
import { test } from "node:test";
import { wholeRecords } from "./tls-records.ts";

const record = (length: number, type = 23) =>
  Buffer.concat([Buffer.from([type, 3, 3, length >> 8, length & 255]), Buffer.alloc(length)]);

test("whole records end where the next one begins, however the rest is cut", () => {
  const bytes = Buffer.concat([Buffer.from([1, 2]), record(10), record(16_640), record(3, 21)]);
  const ends = [17, 17 + 16_645, bytes.length];
  for (let end = 2; end <= bytes.length; end++) {
    assert.equal(
      wholeRecords(bytes, 2, end),
      [2, ...ends].findLast((place) => place <= end),
    );
  }
});

test("what is not TLS is handed on at once", () => {
  for (const text of ["G", "GET / HTTP/1.1\r\n", "\x16\x02\0\0\x01", "\x17\x03\x03\xff\xff"]) {
    const bytes = Buffer.from(text, "latin1");
    assert.equal(wholeRecords(bytes, 0, bytes.length), bytes.length);
  }
});
