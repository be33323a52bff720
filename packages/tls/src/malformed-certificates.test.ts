import assert from "node:assert/strict";
import { after, test } from "node:test";
import { MeshError } from "@tulle/base";
import fc from "fast-check";
import { type IdentityMaterial, liveTlsObjects, TlsContext } from "./index.ts";
import { sequence, tlv } from "./testing/der.ts";
import { shakeHands } from "./testing/link.ts";
import { type LeafOptions, spiffe, TestCa, uriName } from "./testing/test-ca.ts";

const GOOD = spiffe("peer");
const ca = TestCa.create();
const judge = TlsContext.create(ca.workload("judge"));

after(() => {
  judge.close();
  assert.deepEqual(liveTlsObjects(), { context: 0, session: 0, output: 0, backlog: 0 });
});

/** Presents the leaf as a client and, if OpenSSL takes it as our own certificate at all, says what the server made of it. */
function present(options: LeafOptions): { state: string; code: string | undefined; message: string; name?: string } {
  let context: TlsContext;
  try {
    context = TlsContext.create(ca.issue(options) satisfies IdentityMaterial);
  } catch (error) {
    assert.ok(error instanceof MeshError);
    return { state: "failed", code: error.code, message: error.message };
  }
  const client = context.client({ kind: "identities", uris: [spiffe("judge")] });
  const server = judge.server({ kind: "trust-domain", trustDomain: "cluster.local" });
  try {
    shakeHands(client, server);
    const { state, error, peer } = server;
    assert.equal(state === "open", peer !== undefined);
    assert.ok(error === undefined || error instanceof MeshError);
    return {
      state,
      code: error?.code,
      message: error?.message ?? "",
      ...(peer && { name: peer.identity.serviceAccount }),
    };
  } finally {
    client.close();
    server.close();
    context.close();
  }
}

const names = (...parts: readonly (string | Uint8Array)[]) => sequence(...parts.map(uriName));

const refused: readonly { readonly name: string; readonly leaf: LeafOptions; readonly reason: RegExp }[] = [
  { name: "an embedded NUL", leaf: { rawSan: names(`${GOOD}\0.evil`) }, reason: /bytes that no URI may have/ },
  { name: "a leading NUL", leaf: { rawSan: names(`\0${GOOD}`) }, reason: /bytes that no URI may have/ },
  { name: "a NUL in a second URI", leaf: { rawSan: names(GOOD, "a\0b") }, reason: /bytes that no URI may have/ },
  { name: "bytes outside ASCII", leaf: { rawSan: names(Buffer.from(`${GOOD}é`, "utf8")) }, reason: /no URI may have/ },
  { name: "a line break", leaf: { rawSan: names(`${GOOD}\n`) }, reason: /bytes that no URI may have/ },
  { name: "a space", leaf: { rawSan: names(`${GOOD} `) }, reason: /bytes that no URI may have/ },
  { name: "a URI of 100 kB", leaf: { rawSan: names(GOOD + "a".repeat(60_000)) }, reason: /a URI of 6\d{4} bytes/ },
  {
    name: "65 names",
    leaf: { rawSan: names(...Array.from({ length: 65 }, () => GOOD)) },
    reason: /65 subject alternative names/,
  },
  { name: "an empty URI", leaf: { rawSan: names("") }, reason: /expected trustdomain \(cluster.local\), got/ },
  { name: "no names in the extension", leaf: { rawSan: sequence() }, reason: /got no URI SAN/ },
  { name: "only a DNS name", leaf: { rawSan: sequence(tlv(0x82, Buffer.from(GOOD))) }, reason: /got no URI SAN/ },
  { name: "the identity as an e-mail", leaf: { rawSan: sequence(tlv(0x81, Buffer.from(GOOD))) }, reason: /no URI SAN/ },
];

for (const { name, leaf, reason } of refused) {
  test(`a certificate with ${name} is refused`, () => {
    const outcome = present(leaf);
    assert.equal(outcome.state, "failed");
    assert.match(outcome.message, reason);
  });
}

const unreadable: readonly { readonly name: string; readonly leaf: LeafOptions }[] = [
  { name: "an extension that is no DER", leaf: { rawSan: Buffer.from("not DER at all") } },
  { name: "an empty extension", leaf: { rawSan: Buffer.alloc(0) } },
  { name: "a truncated sequence", leaf: { rawSan: names(GOOD).subarray(0, 20) } },
  { name: "a length longer than the content", leaf: { rawSan: Buffer.from([0x30, 0x84, 0xff, 0xff, 0xff, 0xff]) } },
  { name: "two SAN extensions", leaf: { uris: [GOOD], sanCopies: 2 } },
];

for (const { name, leaf } of unreadable) {
  test(`a certificate with ${name} is refused`, () => {
    assert.equal(present(leaf).state, "failed");
  });
}

test("64 names are not too many, and the first identity counts", () => {
  const many = Array.from({ length: 63 }, (_, i) => `urn:${i}`);
  assert.equal(present({ uris: [...many, GOOD] }).name, "peer");
});

test("whatever the SAN holds, a peer is let in only by a well-formed identity of the trust domain", () => {
  const piece = fc.oneof(
    fc.constant(GOOD),
    fc.constant("spiffe://cluster.local/ns/a/sa/b/c"),
    fc.constant("spiffe://other/ns/a/sa/b"),
    fc.string({ maxLength: 40 }),
    fc.uint8Array({ maxLength: 60 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 5 }), fc.option(fc.uint8Array({ maxLength: 80 })), (pieces, raw) => {
      const outcome = present({ rawSan: raw ?? names(...pieces) });
      if (outcome.state !== "open") return;
      assert.equal(raw, null);
      const texts = pieces.map((one) => Buffer.from(one as string).toString("latin1"));
      assert.ok(texts.every((text) => /^[\x21-\x7e]*$/.test(text)));
      assert.equal(
        texts.find((text) => text === GOOD || text === "spiffe://other/ns/a/sa/b"),
        GOOD,
      );
      assert.equal(outcome.name, "peer");
    }),
    { numRuns: 300 },
  );
});

test("a certificate with a flipped bit never gets in and never breaks the judge", () => {
  const material = ca.workload("peer");
  const [, body = ""] = /-----\n([\s\S]*?)\n-----END/.exec(material.certificateChainPem) ?? [];
  const der = Buffer.from(body, "base64");
  let parsed = 0;
  fc.assert(
    fc.property(fc.nat(der.length * 8 - 1), (bit) => {
      const bytes = Buffer.from(der);
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
      const pem = `-----BEGIN CERTIFICATE-----\n${bytes.toString("base64")}\n-----END CERTIFICATE-----\n`;
      let context: TlsContext;
      try {
        context = TlsContext.create({
          ...material,
          privateKey: Uint8Array.from(material.privateKey),
          certificateChainPem: pem,
        });
      } catch (error) {
        assert.ok(error instanceof MeshError);
        return;
      }
      parsed++;
      const client = context.client({ kind: "identities", uris: [spiffe("judge")] });
      const server = judge.server({ kind: "trust-domain", trustDomain: "cluster.local" });
      shakeHands(client, server);
      assert.equal(server.state, "failed");
      assert.ok(server.error instanceof MeshError);
      for (const closing of [client, server, context]) closing.close();
    }),
    { numRuns: 400 },
  );
  assert.ok(parsed > 50, `only ${parsed} of the damaged certificates came as far as the judge`);
});
