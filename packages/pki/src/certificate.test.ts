import assert from "node:assert/strict";
import { test } from "node:test";
import { CertificateAuthority, parseCertificates, PrivateKey, uriSans } from "./index.ts";
import { spkiOf } from "./authority.ts";

async function leafWith(names: { uris?: string[]; dnsNames?: string[]; ipAddresses?: string[] }) {
  const authority = await CertificateAuthority.selfSigned();
  const issued = await authority.issue({ spki: spkiOf(PrivateKey.generate()), ...names });
  const [leaf] = parseCertificates(issued.chain.join(""));
  assert.ok(leaf);
  return leaf;
}

test("URI names are read among other names, in order", async () => {
  const leaf = await leafWith({
    uris: ["spiffe://a/ns/b/sa/c", "spiffe://d"],
    dnsNames: ["x.example"],
    ipAddresses: ["10.0.0.1"],
  });
  assert.deepEqual(uriSans(leaf), ["spiffe://a/ns/b/sa/c", "spiffe://d"]);
});

test("a name that imitates a list of names stays one name", async () => {
  const tricky = [
    "spiffe://evil, URI:spiffe://cluster.local/ns/a/sa/b",
    'spiffe://evil", URI:spiffe://cluster.local/ns/a/sa/b',
    'x\\", URI:spiffe://cluster.local/ns/a/sa/b',
    "DNS:spiffe://x",
  ];
  for (const uri of tricky) assert.deepEqual(uriSans(await leafWith({ uris: [uri] })), [uri]);
  const dns = await leafWith({ dnsNames: ["a, URI:spiffe://cluster.local/ns/a/sa/b"] });
  assert.deepEqual(uriSans(dns), []);
});

test("a certificate without names has none", async () => {
  assert.deepEqual(uriSans(await leafWith({})), []);
});

test("text around PEM blocks is passed over, a broken block is not", async () => {
  const leaf = await leafWith({});
  const pem = `# a comment\n${leaf.toString()}\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n`;
  assert.equal(parseCertificates(pem).length, 1);
  assert.throws(() => parseCertificates("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), /PEM block 1/);
});
