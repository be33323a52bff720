import assert from "node:assert/strict";
import { test } from "node:test";
import packet from "dns-packet";
import fc from "fast-check";
import {
  encodeAnswer,
  encodeQuery,
  encodeRefusal,
  parseQuery,
  type Query,
  RCODE_FORMAT_ERROR,
  RCODE_NOT_IMPLEMENTED,
  RCODE_OK,
  readName,
  reissue,
  summarizeResponse,
  udpLimit,
} from "./message.ts";

/** The published types of dns-packet are those of an older version. */
interface Decoded {
  readonly id: number;
  readonly flag_aa: boolean;
  readonly flag_ra: boolean;
  readonly flag_rd: boolean;
  readonly flag_tc: boolean;
  readonly answers: readonly { readonly ttl: number }[];
  readonly additionals: readonly { readonly type: string }[];
}
const codec = packet as unknown as {
  encode(message: object): Buffer;
  decode(bytes: Buffer): Decoded;
  readonly RECURSION_DESIRED: number;
  readonly RECURSION_AVAILABLE: number;
  readonly DNSSEC_OK: number;
};

function queryOf(bytes: Uint8Array): Query {
  const parsed = parseQuery(bytes);
  assert.equal(parsed.kind, "query");
  return (parsed as { query: Query }).query;
}

function ask(name: string, type: "A" | "AAAA" | "SRV" = "A", edns?: { payload: number; dnssec?: boolean }): Buffer {
  return codec.encode({
    type: "query",
    id: 4711,
    flags: codec.RECURSION_DESIRED,
    questions: [{ type, name }],
    additionals:
      edns === undefined
        ? []
        : [
            {
              type: "OPT",
              name: ".",
              udpPayloadSize: edns.payload,
              extendedRcode: 0,
              ednsVersion: 0,
              flags: edns.dnssec ? codec.DNSSEC_OK : 0,
              flag_do: edns.dnssec ?? false,
              options: [],
            },
          ],
  });
}

test("a query is read with its name in lower case, its type and its EDNS", () => {
  const query = queryOf(ask("Details.Default.SVC", "AAAA", { payload: 1232, dnssec: true }));
  assert.equal(query.id, 4711);
  assert.equal(query.name, "details.default.svc");
  assert.equal(query.type, 28);
  assert.ok(query.recursionDesired);
  assert.deepEqual(query.edns, { payload: 1232, version: 0, dnssecOk: true });
  assert.equal(udpLimit(query), 1232);
  assert.equal(udpLimit(queryOf(ask("a"))), 512);
});

test("what is no query is refused with the right code", () => {
  const response = codec.encode({ type: "response", id: 1, questions: [{ type: "A", name: "a" }] });
  assert.deepEqual(parseQuery(response), { kind: "refuse", id: 1, code: RCODE_FORMAT_ERROR, recursionDesired: false });
  const update = Buffer.from(ask("a"));
  update.writeUInt16BE(5 << 11, 2);
  assert.equal((parseQuery(update) as { code: number }).code, RCODE_NOT_IMPLEMENTED);
  assert.deepEqual(parseQuery(new Uint8Array(11)), { kind: "drop" });
  const two = codec.encode({
    type: "query",
    questions: [
      { type: "A", name: "a" },
      { type: "A", name: "b" },
    ],
  });
  assert.equal((parseQuery(two) as { code: number }).code, RCODE_FORMAT_ERROR);
  assert.equal(codec.decode(Buffer.from(encodeRefusal(7, RCODE_NOT_IMPLEMENTED, true))).id, 7);
});

test("an answer is readable by another implementation", () => {
  const query = queryOf(ask("web.example", "A", { payload: 4096 }));
  const bytes = encodeAnswer(
    query,
    { code: RCODE_OK, authoritative: true, addresses: ["10.0.0.1", "10.0.0.2"], cname: "real.example", ttlSeconds: 30 },
    udpLimit(query),
  );
  const decoded = codec.decode(Buffer.from(bytes));
  assert.equal(decoded.id, 4711);
  assert.ok(decoded.flag_aa && decoded.flag_ra && decoded.flag_rd && !decoded.flag_tc);
  assert.deepEqual(
    decoded.answers.map((record) => ({ ...record })),
    [
      { name: "web.example", type: "CNAME", ttl: 30, class: "IN", flush: false, data: "real.example" },
      { name: "real.example", type: "A", ttl: 30, class: "IN", flush: false, data: "10.0.0.1" },
      { name: "real.example", type: "A", ttl: 30, class: "IN", flush: false, data: "10.0.0.2" },
    ],
  );
  assert.equal(decoded.additionals[0]?.type, "OPT");
});

test("an answer that does not fit is cut and says so", () => {
  const query = queryOf(ask("many.example", "AAAA"));
  const addresses = Array.from({ length: 100 }, (_, i) => `fd00::${(i + 1).toString(16)}`);
  const bytes = encodeAnswer(
    query,
    { code: RCODE_OK, authoritative: true, addresses, cname: undefined, ttlSeconds: 30 },
    512,
  );
  assert.ok(bytes.length <= 512);
  const decoded = codec.decode(Buffer.from(bytes));
  assert.ok(decoded.flag_tc);
  assert.ok(decoded.answers.length > 5);
});

test("an upstream's response is summarized and reissued with older TTLs", () => {
  const query = queryOf(ask("Up.example"));
  const upstream = codec.encode({
    type: "response",
    id: 99,
    flags: codec.RECURSION_AVAILABLE,
    questions: [{ type: "A", name: "Up.example" }],
    answers: [
      { type: "A", name: "Up.example", ttl: 60, data: "192.0.2.1" },
      { type: "A", name: "Up.example", ttl: 20, data: "192.0.2.2" },
    ],
  });
  const summary = summarizeResponse(upstream);
  assert.equal(summary?.ttlSeconds, 20);
  assert.deepEqual(summary?.addresses, ["192.0.2.1", "192.0.2.2"]);
  const again = codec.decode(Buffer.from(reissue(upstream, query, summary?.ttlOffsets ?? [], 25)));
  assert.equal(again.id, 4711);
  assert.deepEqual(
    again.answers.map((record) => record.ttl),
    [35, 0],
  );
  assert.equal(codec.decode(Buffer.from(encodeQuery(query, 5))).id, 5);
});

test("a compression pointer may not loop or point forward", () => {
  const loop = new Uint8Array(20);
  loop.set([0xc0, 12], 12);
  assert.equal(readName(loop, 12), undefined);
  const forward = new Uint8Array(20);
  forward.set([0xc0, 16], 12);
  assert.equal(readName(forward, 12), undefined);
});

test("no input makes the parsers throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
      parseQuery(bytes);
      summarizeResponse(bytes);
    }),
    { numRuns: 2000 },
  );
  const valid = ask("a.b.c.example", "SRV", { payload: 1400 });
  fc.assert(
    fc.property(fc.nat(valid.length - 1), fc.nat(255), fc.nat(valid.length), (at, value, cut) => {
      const bytes = Uint8Array.from(valid);
      bytes[at] = value;
      parseQuery(bytes.subarray(0, cut));
    }),
    { numRuns: 2000 },
  );
});
