import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { createCsr, parseCsr, PrivateKey } from "./index.ts";
import { KEY_FILE, openssl } from "./openssl.fixture.ts";
import { fromPem, toPem } from "./pem.ts";

const IDENTITY = { trustDomain: "cluster.local", namespace: "default", serviceAccount: "bookinfo-productpage" };
const URI = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage";

test("OpenSSL reads our request: empty subject, one critical URI name, P-256 with SHA-256", () => {
  const text = openssl(["req", "-noout", "-text", "-verify"], createCsr(IDENTITY, PrivateKey.generate()));
  assert.match(text, /Subject: *\n/);
  assert.match(
    text,
    /X509v3 Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/default\/sa\/bookinfo-productpage\n/,
  );
  assert.equal(text.match(/X509v3/g)?.length, 1);
  assert.match(text, /NIST CURVE: P-256/);
  assert.match(text, /Signature Algorithm: ecdsa-with-SHA256/);
});

test("a request is read back with its key and its names", async () => {
  const key = PrivateKey.generate();
  const request = await parseCsr(createCsr(IDENTITY, key));
  assert.deepEqual(request.uriSans, [URI]);
  assert.ok(request.publicKey.equals(key.publicKey));
});

test("requests of other clients are read: RSA, other names, no names", async () => {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const pem = privateKey.export({ type: "pkcs8", format: "pem" });
  const args = ["req", "-new", "-key", KEY_FILE, "-subj", "/O=x"];
  const names = openssl([...args, "-addext", `subjectAltName=DNS:a.example,URI:${URI},URI:spiffe://other`], pem);
  assert.deepEqual((await parseCsr(names)).uriSans, [URI, "spiffe://other"]);
  assert.deepEqual((await parseCsr(openssl(args, pem))).uriSans, []);
});

test("a request that cannot be trusted is refused", async () => {
  const honest = createCsr(IDENTITY, PrivateKey.generate());
  const [der = Buffer.alloc(0)] = fromPem("CERTIFICATE REQUEST", honest);
  const otherKey = Buffer.from(der);
  const spki = PrivateKey.generate().publicKey.export({ type: "spki", format: "der" });
  spki.copy(otherKey, der.indexOf(spki.subarray(0, 26)));
  const weak = generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey;
  const ed25519 = generateKeyPairSync("ed25519").privateKey;
  const by = (key: typeof weak) =>
    openssl(["req", "-new", "-key", KEY_FILE, "-subj", "/"], key.export({ type: "pkcs8", format: "pem" }));
  const cases: [string, string, RegExp][] = [
    ["another key put in", toPem("CERTIFICATE REQUEST", otherKey), /its signature does not belong to its key/],
    ["truncated", toPem("CERTIFICATE REQUEST", der.subarray(0, 100)), /bad certificate request/],
    ["empty", "", /not one PEM certificate request/],
    ["two requests", honest + honest, /not one PEM certificate request/],
    ["a certificate's label", honest.replaceAll("CERTIFICATE REQUEST", "CERTIFICATE"), /not one PEM/],
    ["weak RSA", by(weak), /1024 bits/],
    ["another kind of key", by(ed25519), /ed25519/],
    ["too long", honest + " ".repeat(20_000), /longer than 16384/],
  ];
  for (const [name, csr, expected] of cases) {
    await assert.rejects(parseCsr(csr), { code: "BAD_CSR", side: "downstream", message: expected }, name);
  }
});

test("no altered byte of a request is accepted with another meaning", async () => {
  const [der = Buffer.alloc(0)] = fromPem("CERTIFICATE REQUEST", createCsr(IDENTITY, PrivateKey.generate()));
  for (let at = 0; at < der.length; at += 7) {
    const altered = Buffer.from(der);
    altered[at] = (altered[at] ?? 0) ^ 0x01;
    await assert.rejects(parseCsr(toPem("CERTIFICATE REQUEST", altered)), { code: "BAD_CSR" }, `byte ${at}`);
  }
});
