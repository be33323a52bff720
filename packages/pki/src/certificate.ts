import { X509Certificate } from "node:crypto";
import { fromPem, toPem } from "./pem.ts";

/** What is worth knowing of a certificate without holding OpenSSL's object of it. */
export interface CertificateInfo {
  /** One block. */
  readonly pem: string;
  /** Decimal. */
  readonly serialNumber: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly uriSans: readonly string[];
}

const CERTIFICATE = "CERTIFICATE";

/** Every certificate in a PEM text, in order. Throws Error when a block is not a certificate. */
export function parseCertificates(pem: string): X509Certificate[] {
  return fromPem(CERTIFICATE, pem).map((der, index) => {
    try {
      return new X509Certificate(der);
    } catch (cause) {
      throw new Error(`PEM block ${index + 1} is not an X.509 certificate`, { cause });
    }
  });
}

export function certificatePem(certificate: X509Certificate): string {
  return toPem(CERTIFICATE, certificate.raw);
}

export function describeCertificate(certificate: X509Certificate): CertificateInfo {
  return {
    pem: certificatePem(certificate),
    serialNumber: BigInt(`0x${certificate.serialNumber}`).toString(),
    notBefore: certificate.validFromDate.getTime(),
    notAfter: certificate.validToDate.getTime(),
    uriSans: uriSans(certificate),
  };
}

/** The URI names of the subject alternative name, in order. */
export function uriSans(certificate: X509Certificate): string[] {
  // Node's text form: `URI:spiffe://…, DNS:…`; a value with special characters is a JSON string.
  const text = certificate.subjectAltName ?? "";
  const uris: string[] = [];
  for (const [, kind, value = ""] of text.matchAll(/([^:,]+):("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)/g)) {
    if (kind !== "URI") continue;
    uris.push(value.startsWith('"') ? (JSON.parse(value) as string) : value);
  }
  return uris;
}

/** Whether a certificate signed itself: a root. */
export function isSelfSigned(certificate: X509Certificate): boolean {
  return certificate.checkIssued(certificate) && certificate.verify(certificate.publicKey);
}
