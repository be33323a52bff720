import assert from "node:assert/strict";
import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { format, inspect } from "node:util";
import { CertificateAuthority, PrivateKey, SecretManager } from "./index.ts";

const IDENTITY = { trustDomain: "cluster.local", namespace: "ns", serviceAccount: "sa" };

/** Every way in which an object ends up in a log by accident. */
function everythingShown(value: object): string {
  return [
    JSON.stringify(value),
    format("%s %O", value, value),
    inspect(value, { depth: 20, showHidden: true, getters: true }),
    JSON.stringify(Object.entries(value)),
  ].join("\n");
}

/** Pieces of a key in the encodings in which it could be shown. */
function traces(pem: string): string[] {
  const der = createPrivateKey(pem).export({ type: "pkcs8", format: "der" });
  const secret = Buffer.from(createPrivateKey(pem).export({ format: "jwk" }).d ?? "", "base64url");
  const decimal = [...secret.subarray(8, 14)].join(", ");
  const middle = der.toString("base64").slice(48, 80);
  return [middle, secret.toString("hex").slice(8, 40), secret.toString("base64").slice(4, 36), decimal, "PRIVATE KEY"];
}

test("nothing that holds a key shows it", async () => {
  const authority = await CertificateAuthority.selfSigned({ intermediate: true });
  const certificate = await authority.issueIdentity(IDENTITY);
  const manager = new SecretManager({ source: { fetch: async () => certificate } });
  await manager.get(IDENTITY);
  const key = PrivateKey.generate();
  const holders: [object, string][] = [
    [key, key.exportPem()],
    [{ nested: [key] }, key.exportPem()],
    [certificate, certificate.exportPrivateKeyPem()],
    [authority, authority.exportPem().privateKeyPem],
    [manager, certificate.exportPrivateKeyPem()],
    [manager.entries(), certificate.exportPrivateKeyPem()],
  ];
  for (const [holder, pem] of holders) {
    const shown = everythingShown(holder);
    for (const trace of traces(pem)) assert.ok(!shown.includes(trace), `${holder.constructor.name} shows ${trace}`);
  }
  manager.close();
});

test("each export of a key is memory of its own", () => {
  const key = PrivateKey.generate();
  const first = key.exportPkcs8();
  const copy = Buffer.from(first);
  first.fill(0);
  assert.deepEqual(Buffer.from(key.exportPkcs8()), copy);
  assert.equal(first.buffer.byteLength, first.byteLength, "it does not come from a shared pool");
});

test("an unreadable key is refused without a word of it", () => {
  const encrypted = generateKeyPairSync("ec", {
    namedCurve: "P-256",
    privateKeyEncoding: { type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "x" },
    publicKeyEncoding: { type: "spki", format: "pem" },
  }).privateKey;
  for (const text of ["secret-text", encrypted]) {
    assert.throws(
      () => PrivateKey.fromPem(text),
      (error: Error) => {
        assert.equal(error.message, "not an unencrypted PEM private key");
        assert.equal(error.cause, undefined);
        return true;
      },
    );
  }
});
