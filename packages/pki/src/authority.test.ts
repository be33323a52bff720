import assert from "node:assert/strict";
import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { spkiOf } from "./authority.ts";
import { signCertificate } from "./issue.ts";
import { CertificateAuthority, parseCertificates, PrivateKey, TrustBundle } from "./index.ts";
import { KEY_FILE, openssl } from "./openssl.fixture.ts";

const IDENTITY = { trustDomain: "cluster.local", namespace: "a", serviceAccount: "b" };
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = Date.UTC(2026, 5, 1);
const clock = { now: () => NOW, wall: () => NOW };

function leafOf(chain: readonly string[]): X509Certificate {
  return new X509Certificate(chain[0] ?? "");
}

test("OpenSSL verifies what we issue, with and without an intermediate", async () => {
  const directory = mkdtempSync(join(tmpdir(), "tulle-pki-"));
  try {
    for (const intermediate of [false, true]) {
      const authority = await CertificateAuthority.selfSigned({ intermediate });
      const certificate = await authority.issueIdentity(IDENTITY);
      assert.equal(certificate.chain.length, intermediate ? 2 : 1);
      writeFileSync(join(directory, "chain.pem"), certificate.certificateChainPem);
      writeFileSync(join(directory, "root.pem"), certificate.rootsPem);
      const files = ["-CAfile", join(directory, "root.pem"), "-untrusted", join(directory, "chain.pem")];
      for (const purpose of ["sslserver", "sslclient"]) {
        const args = ["verify", "-x509_strict", "-purpose", purpose, ...files, join(directory, "chain.pem")];
        assert.match(openssl(args), /: OK/);
      }
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a leaf says what a mesh expects of it", async () => {
  const authority = await CertificateAuthority.selfSigned();
  const certificate = await authority.issueIdentity(IDENTITY);
  const text = openssl(["x509", "-noout", "-text"], certificate.certificateChainPem);
  assert.match(text, /Subject: *\n/);
  assert.match(text, /Basic Constraints: critical\s+CA:FALSE/);
  assert.match(text, /Key Usage: critical\s+Digital Signature, Key Encipherment\n/);
  assert.match(text, /TLS Web Server Authentication, TLS Web Client Authentication/);
  assert.match(text, /Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/a\/sa\/b\n/);
  assert.match(text, /Authority Key Identifier/);
});

test("a leaf lives for a day, from a little in the past", async () => {
  const authority = await CertificateAuthority.selfSigned({ clock });
  const certificate = await authority.issueIdentity(IDENTITY);
  assert.equal(certificate.notAfter, NOW + DAY);
  assert.equal(certificate.notBefore, NOW - 120_000);
});

test("a wish for a life is granted up to the maximum and the signer's own end", async () => {
  const authority = await CertificateAuthority.selfSigned({ clock, rootTtlMs: 10 * DAY, maxTtlMs: 60 * DAY });
  const spki = spkiOf(PrivateKey.generate());
  const cases: [string, number | undefined, number][] = [
    ["none", undefined, DAY],
    ["zero", 0, DAY],
    ["negative", -5, DAY],
    ["short", HOUR, HOUR],
    ["beyond the signer's end", 30 * DAY, 10 * DAY],
  ];
  for (const [name, ttlMs, expected] of cases) {
    const issued = await authority.issue(ttlMs === undefined ? { spki } : { spki, ttlMs });
    assert.equal(issued.notAfter - NOW, expected, name);
    assert.equal(leafOf(issued.chain).validToDate.getTime(), NOW + expected, name);
  }
  await assert.rejects(authority.issue({ spki, ttlMs: 61 * DAY }), { code: "TTL_TOO_LONG", side: "downstream" });
});

test("an authority whose time is over signs nothing", async () => {
  let wall = NOW;
  const moving = { now: () => wall, wall: () => wall };
  const authority = await CertificateAuthority.selfSigned({ clock: moving, rootTtlMs: HOUR });
  await authority.issueIdentity(IDENTITY);
  wall += 2 * HOUR;
  await assert.rejects(authority.issueIdentity(IDENTITY), { code: "AUTHORITY_EXPIRED" });
});

test("serial numbers are positive, 128 bits and never the same", async () => {
  const authority = await CertificateAuthority.selfSigned();
  const serials = new Set<string>();
  for (let i = 0; i < 20; i++) {
    const issued = await authority.issue({ spki: spkiOf(PrivateKey.generate()) });
    serials.add(leafOf(issued.chain).serialNumber);
  }
  assert.equal(serials.size, 20);
  for (const serial of serials) assert.match(serial, /^[4-7][0-9A-F]{31}$/);
});

test("an authority is taken up again from its PEM", async () => {
  const first = await CertificateAuthority.selfSigned({ intermediate: true });
  const again = CertificateAuthority.fromPem(first.exportPem());
  const certificate = await again.issueIdentity(IDENTITY);
  const chain = parseCertificates(certificate.certificateChainPem);
  assert.equal(first.trustBundle.problemWith(chain, Date.now()), undefined);
});

test("authorities with RSA, P-384 and PKCS #1 keys can be plugged in", async () => {
  const keys = {
    rsa: generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ type: "pkcs1", format: "pem" }),
    p384: generateKeyPairSync("ec", { namedCurve: "P-384" }).privateKey.export({ type: "sec1", format: "pem" }),
  };
  for (const [name, pem] of Object.entries(keys)) {
    const root = openssl(
      ["req", "-x509", "-new", "-key", KEY_FILE, "-subj", "/O=Ünïcode/CN=plugged in", "-days", "30", "-utf8"],
      pem,
    );
    const authority = CertificateAuthority.fromPem({
      certificatePem: root,
      privateKeyPem: pem,
      rootsPem: root,
    });
    const certificate = await authority.issueIdentity(IDENTITY);
    const chain = parseCertificates(certificate.certificateChainPem);
    assert.equal(TrustBundle.fromPem(root).problemWith(chain, Date.now()), undefined, name);
    assert.ok(chain[0]?.checkIssued(new X509Certificate(root)), name);
  }
});

test("an authority that cannot be used is refused, with the reason", async () => {
  const one = await CertificateAuthority.selfSigned({ clock });
  const other = await CertificateAuthority.selfSigned({ clock });
  const below = await CertificateAuthority.selfSigned({ clock, intermediate: true });
  const leaf = await one.issueIdentity(IDENTITY);
  const pem = one.exportPem();
  const later = { now: () => NOW, wall: () => NOW + 5000 * DAY };
  const cases: [string, RegExp, () => unknown][] = [
    ["another key", /does not belong to its key/, () => ({ ...pem, privateKeyPem: other.exportPem().privateKeyPem })],
    ["another root", /no trusted root has issued/, () => ({ ...below.exportPem(), rootsPem: other.rootsPem })],
    [
      "a leaf",
      /may not sign others/,
      () => ({ ...pem, certificatePem: leaf.certificateChainPem, privateKeyPem: leaf.exportPrivateKeyPem() }),
    ],
    ["no certificate", /no certificate in its certificate file/, () => ({ ...pem, certificatePem: "" })],
  ];
  for (const [name, message, make] of cases) {
    assert.throws(
      () => CertificateAuthority.fromPem(make() as typeof pem, { clock }),
      { code: "BAD_AUTHORITY", message },
      name,
    );
  }
  assert.throws(() => CertificateAuthority.fromPem(pem, { clock: later }), {
    code: "BAD_AUTHORITY",
    message: /expired/,
  });
});

test("a bundle holds several roots and judges chains by all of them", async () => {
  const [one, two, stranger] = await Promise.all([1, 2, 3].map(() => CertificateAuthority.selfSigned()));
  assert.ok(one && two && stranger);
  const bundle = one.trustBundle.with(two.trustBundle).with(one.trustBundle);
  assert.equal(bundle.roots.length, 2);
  for (const [authority, trusted] of [
    [one, true],
    [two, true],
    [stranger, false],
  ] as const) {
    const chain = parseCertificates((await authority.issueIdentity(IDENTITY)).certificateChainPem);
    assert.equal(bundle.problemWith(chain, Date.now()) === undefined, trusted);
  }
  assert.throws(() => TrustBundle.fromPem("nothing"), /no certificate in the root bundle/);
});

test("a leaf cannot vouch for another leaf", async () => {
  const authority = await CertificateAuthority.selfSigned();
  const leaf = await authority.issueIdentity(IDENTITY);
  const key = PrivateKey.generate();
  const forged = await signCertificate(
    {
      notBefore: Date.now() - HOUR,
      notAfter: Date.now() + HOUR,
      spki: spkiOf(key),
      uris: ["spiffe://a/ns/b/sa/c"],
      authority: false,
    },
    { key: PrivateKey.fromPem(leaf.exportPrivateKeyPem()), certificate: new X509Certificate(leaf.chain[0]?.pem ?? "") },
  );
  const chain = parseCertificates(forged + leaf.certificateChainPem);
  assert.match(authority.trustBundle.problemWith(chain, Date.now()) ?? "", /no trusted root has issued/);
});
