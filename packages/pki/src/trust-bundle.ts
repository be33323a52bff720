import type { X509Certificate } from "node:crypto";
import { certificatePem, isSelfSigned, parseCertificates } from "./certificate.ts";

/** More certificates than this in one chain are refused, as in OpenSSL's default. */
const MAX_DEPTH = 100;

/** The roots that a mesh trusts: one, or several while a root is being replaced or meshes are joined. */
export class TrustBundle {
  readonly roots: readonly X509Certificate[];

  private constructor(roots: readonly X509Certificate[]) {
    this.roots = roots;
  }

  /** Duplicates count once. Throws Error when there is no certificate in the text. */
  static fromPem(...pems: readonly string[]): TrustBundle {
    const unique = new Map<string, X509Certificate>();
    for (const root of pems.flatMap(parseCertificates)) unique.set(root.fingerprint256, root);
    if (unique.size === 0) throw new Error("there is no certificate in the root bundle");
    return new TrustBundle([...unique.values()]);
  }

  get pem(): string {
    return this.roots.map(certificatePem).join("");
  }

  /** This bundle and another, without duplicates. */
  with(other: TrustBundle): TrustBundle {
    return TrustBundle.fromPem(this.pem, other.pem);
  }

  includes(certificate: X509Certificate): boolean {
    return this.roots.some((root) => root.fingerprint256 === certificate.fingerprint256);
  }

  /**
   * Why a chain (leaf first) does not lead to one of the roots at `wall` (ms since the epoch), or undefined when it does.
   * For certificates that we hold ourselves; those of a peer are OpenSSL's to judge, inside the handshake.
   */
  problemWith(chain: readonly X509Certificate[], wall: number): string | undefined {
    const [leaf, ...others] = chain;
    if (leaf === undefined) return "the chain is empty";
    const candidates = [...others, ...this.roots];
    let current = leaf;
    for (let depth = 0; depth < MAX_DEPTH; depth++) {
      const problem = problemAt(current, wall);
      if (problem !== undefined) return problem;
      if (this.includes(current)) return undefined;
      const child: X509Certificate = current;
      const issuer = candidates.find((one) => one.ca && child.checkIssued(one) && child.verify(one.publicKey));
      if (issuer === undefined || (isSelfSigned(current) && !this.includes(current))) {
        return `no trusted root has issued ${name(current)}`;
      }
      current = issuer;
    }
    return "the chain is too long";
  }
}

function problemAt(certificate: X509Certificate, wall: number): string | undefined {
  if (wall < certificate.validFromDate.getTime())
    return `${name(certificate)} is not valid before ${certificate.validFrom}`;
  if (wall > certificate.validToDate.getTime()) return `${name(certificate)} expired at ${certificate.validTo}`;
  return undefined;
}

function name(certificate: X509Certificate): string {
  const subject = certificate.subject?.replaceAll("\n", ", ");
  return `the certificate of ${subject || certificate.subjectAltName || `serial ${certificate.serialNumber}`}`;
}
