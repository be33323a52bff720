import type { X509Certificate } from "node:crypto";
import type { Extension, KeyUsageFlags } from "@peculiar/x509";
import type { PrivateKey } from "./private-key.ts";
import { loadX509 } from "./x509.ts";

export interface CertificateTemplate {
  /** Absent for a leaf: its name stands in the subject alternative name, which is then critical (RFC 5280 §4.1.2.6). */
  readonly subject?: { readonly organization: string; readonly commonName: string };
  /** Hexadecimal. Default: random. */
  readonly serialNumber?: string;
  /** Milliseconds since the epoch; certificates hold whole seconds. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly spki: Uint8Array;
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
  /** Whether it may sign others. */
  readonly authority: boolean;
}

/** Without a certificate the key signs its own. */
export interface Signer {
  readonly key: PrivateKey;
  readonly certificate?: X509Certificate;
}

/** Signs one certificate; PEM. What may be signed is the caller's decision. */
export async function signCertificate(template: CertificateTemplate, signer: Signer): Promise<string> {
  const x509 = await loadX509();
  const issuer = signer.certificate === undefined ? undefined : new x509.X509Certificate(signer.certificate.raw);
  const subject = template.subject === undefined ? [] : nameOf(template.subject);
  const publicKey = new x509.PublicKey(Buffer.from(template.spki));
  const signerSpki = signer.key.publicKey.export({ type: "spki", format: "der" });
  const issuerKeyId = issuer?.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId;
  const extensions: Extension[] = [
    new x509.BasicConstraintsExtension(template.authority, undefined, true),
    // oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- the flags are there to be joined
    new x509.KeyUsagesExtension(usages(x509.KeyUsageFlags, template.authority), true),
    await x509.SubjectKeyIdentifierExtension.create(publicKey),
    issuerKeyId === undefined
      ? await x509.AuthorityKeyIdentifierExtension.create(new x509.PublicKey(signerSpki))
      : new x509.AuthorityKeyIdentifierExtension(issuerKeyId),
  ];
  if (!template.authority) {
    const { serverAuth, clientAuth } = x509.ExtendedKeyUsage;
    extensions.push(new x509.ExtendedKeyUsageExtension([serverAuth, clientAuth]));
  }
  const names = [
    ...(template.uris ?? []).map((value) => ({ type: "url" as const, value })),
    ...(template.dnsNames ?? []).map((value) => ({ type: "dns" as const, value })),
    ...(template.ipAddresses ?? []).map((value) => ({ type: "ip" as const, value })),
  ];
  if (names.length > 0)
    extensions.push(new x509.SubjectAlternativeNameExtension(names, template.subject === undefined));
  const { signingKey, signingAlgorithm } = await signingKeyOf(signer.key);
  const certificate = await x509.X509CertificateGenerator.create({
    ...(template.serialNumber === undefined ? {} : { serialNumber: template.serialNumber }),
    subject,
    issuer: issuer?.subjectName ?? subject,
    notBefore: wholeSeconds(template.notBefore),
    notAfter: wholeSeconds(template.notAfter),
    publicKey,
    signingKey,
    signingAlgorithm,
    extensions,
  });
  return `${certificate.toString("pem").trim()}\n`;
}

function nameOf(subject: { organization: string; commonName: string }) {
  return [{ O: [subject.organization] }, { CN: [subject.commonName] }];
}

function usages(flags: typeof KeyUsageFlags, authority: boolean): number {
  return authority ? flags.keyCertSign | flags.cRLSign : flags.digitalSignature | flags.keyEncipherment;
}

function wholeSeconds(wall: number): Date {
  return new Date(Math.floor(wall / 1000) * 1000);
}

/** The key as Web Crypto wants it: RSA with SHA-256, ECDSA with the hash of the curve's strength. */
async function signingKeyOf(key: PrivateKey) {
  const object = key.keyObject();
  if (object.asymmetricKeyType === "rsa") {
    const algorithm = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
    return { signingKey: object.toCryptoKey(algorithm, false, ["sign"]), signingAlgorithm: algorithm };
  }
  const curve = CURVES[object.asymmetricKeyDetails?.namedCurve ?? ""];
  if (curve === undefined) throw new Error("an authority's key is RSA, P-256, P-384 or P-521");
  const signingKey = object.toCryptoKey({ name: "ECDSA", namedCurve: curve.name }, false, ["sign"]);
  return { signingKey, signingAlgorithm: { name: "ECDSA", hash: curve.hash } };
}

const CURVES: Readonly<Record<string, { readonly name: string; readonly hash: string }>> = {
  prime256v1: { name: "P-256", hash: "SHA-256" },
  secp384r1: { name: "P-384", hash: "SHA-384" },
  secp521r1: { name: "P-521", hash: "SHA-512" },
};
