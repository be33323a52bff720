import assert from "node:assert/strict";
import { after, test } from "node:test";
import { MeshError } from "@tulle/base";
import { type IdentityMaterial, liveTlsObjects, TlsContext } from "./index.ts";
import { shakeHands } from "./testing/link.ts";
import { copyOf, spiffe, TestCa } from "./testing/test-ca.ts";

const ca = TestCa.create();
const good = ca.workload("a");
const garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

after(() => assert.deepEqual(liveTlsObjects(), { context: 0, session: 0, output: 0, backlog: 0 }));

const bad: readonly { readonly name: string; readonly change: Partial<IdentityMaterial>; readonly code: string }[] = [
  { name: "no certificate", change: { certificateChainPem: "" }, code: "BAD_CERTIFICATE" },
  { name: "text instead of a certificate", change: { certificateChainPem: "hello\n" }, code: "BAD_CERTIFICATE" },
  { name: "a certificate that is no DER", change: { certificateChainPem: garbage }, code: "BAD_CERTIFICATE" },
  {
    name: "a damaged issuer after the leaf",
    change: { certificateChainPem: good.certificateChainPem + garbage },
    code: "BAD_CERTIFICATE",
  },
  { name: "an oversized chain", change: { certificateChainPem: "x".repeat(2 << 20) }, code: "BAD_CERTIFICATE" },
  { name: "no roots", change: { rootsPem: "" }, code: "BAD_ROOTS" },
  { name: "damaged roots", change: { rootsPem: garbage }, code: "BAD_ROOTS" },
  { name: "one damaged root among good ones", change: { rootsPem: ca.rootPem + garbage }, code: "BAD_ROOTS" },
  { name: "no key", change: { privateKey: new Uint8Array(0) }, code: "BAD_KEY" },
  { name: "a key that is no DER", change: { privateKey: Buffer.from("key") }, code: "BAD_KEY" },
  { name: "the key of another certificate", change: { privateKey: ca.workload("b").privateKey }, code: "BAD_KEY" },
];

for (const { name, change, code } of bad) {
  test(`${name} is ${code}`, () => {
    const material = { ...copyOf(good), ...change };
    assert.throws(
      () => TlsContext.create(material),
      (error) => {
        assert.ok(error instanceof MeshError);
        assert.equal(error.code, code, error.message);
        assert.equal(error.side, "internal");
        assert.ok(!error.message.includes(good.certificateChainPem.slice(40, 60)), "no material in the message");
        return true;
      },
    );
    assert.ok(
      material.privateKey.every((byte) => byte === 0),
      "the key is zeroed even so",
    );
  });
}

test("the key is zeroed once it was parsed", () => {
  const material = copyOf(good);
  TlsContext.create(material).close();
  assert.ok(material.privateKey.every((byte) => byte === 0));
});

test("several roots are all trusted, also an intermediate as an anchor", () => {
  const other = TestCa.create("other root");
  const intermediate = other.intermediate();
  const [anchor = ""] = intermediate
    .workload("x")
    .certificateChainPem.split(/(?<=-----END CERTIFICATE-----\n)/)
    .slice(1);
  using server = TlsContext.create({ ...ca.workload("server"), rootsPem: ca.rootPem + anchor });
  for (const issuer of [ca, intermediate]) {
    using client = TlsContext.create({ ...issuer.workload("client"), rootsPem: ca.rootPem });
    const c = client.client({ kind: "identities", uris: [spiffe("server")] });
    const s = server.server({ kind: "trust-domain", trustDomain: "cluster.local" });
    shakeHands(c, s);
    assert.equal(s.state, "open", s.error?.message ?? "");
    c.close();
    s.close();
  }
});

test("with pqcOnly only X25519MLKEM768 is spoken", () => {
  using strict = TlsContext.create(copyOf(good), { pqcOnly: true });
  using usual = TlsContext.create(ca.workload("b"));
  for (const [client, server] of [
    [strict, usual],
    [usual, strict],
  ] as const) {
    const c = client.client({ kind: "identities", uris: [spiffe("a"), spiffe("b")] });
    const s = server.server({ kind: "trust-domain", trustDomain: "cluster.local" });
    shakeHands(c, s);
    assert.equal(s.state, "open", "the default offers it first");
    c.close();
    s.close();
  }
});
