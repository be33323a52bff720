import { X509Certificate } from "node:crypto";
import { formatIdentity, type Identity, MeshError } from "@tulle/base";
import { type CertificateInfo, describeCertificate, parseCertificates } from "./certificate.ts";
import type { PrivateKey } from "./private-key.ts";

/** What a TLS context takes: the same shape as `IdentityMaterial` of packages/tls. */
export interface CertificateMaterial {
  readonly certificateChainPem: string;
  /** PKCS #8 DER; a copy of the receiver's own, to be zeroed after use. */
  readonly privateKey: Uint8Array;
  readonly rootsPem: string;
}

export interface WorkloadCertificateParts {
  readonly identity: Identity;
  readonly privateKey: PrivateKey;
  /** Leaf first, then intermediates. */
  readonly chainPem: string;
  readonly rootsPem: string;
}

/** One identity's certificate, with its key and the roots that came with it. The key is never shown. */
export class WorkloadCertificate {
  readonly identity: Identity;
  /** Leaf first, then intermediates. */
  readonly chain: readonly CertificateInfo[];
  readonly roots: readonly CertificateInfo[];
  readonly certificateChainPem: string;
  readonly rootsPem: string;
  /** Of the leaf: milliseconds since the epoch, and a decimal number. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly serialNumber: string;
  readonly #privateKey: PrivateKey;

  private constructor(parts: WorkloadCertificateParts, chain: readonly CertificateInfo[], leaf: CertificateInfo) {
    this.identity = parts.identity;
    this.chain = chain;
    this.roots = parseCertificates(parts.rootsPem).map(describeCertificate);
    this.certificateChainPem = chain.map((one) => one.pem).join("");
    this.rootsPem = this.roots.map((one) => one.pem).join("");
    this.notBefore = leaf.notBefore;
    this.notAfter = leaf.notAfter;
    this.serialNumber = leaf.serialNumber;
    this.#privateKey = parts.privateKey;
  }

  /**
   * Throws MeshError unless the leaf names exactly this identity (`WRONG_IDENTITY`) and belongs to the key (`WRONG_KEY`),
   * and there is at least one root (`NO_ROOT`).
   */
  static create(parts: WorkloadCertificateParts): WorkloadCertificate {
    const chain = parseCertificates(parts.chainPem).map(describeCertificate);
    const [leaf] = chain;
    if (leaf === undefined) throw refused("EMPTY_CHAIN", "there is no certificate in the chain");
    const expected = formatIdentity(parts.identity);
    if (leaf.uriSans.length !== 1 || leaf.uriSans[0] !== expected) {
      throw refused("WRONG_IDENTITY", `did not find expected SAN: ${expected}, got [${leaf.uriSans.join(", ")}]`);
    }
    if (!new X509Certificate(leaf.pem).checkPrivateKey(parts.privateKey.keyObject())) {
      throw refused("WRONG_KEY", `the certificate of ${expected} does not belong to its private key`);
    }
    const certificate = new WorkloadCertificate(parts, chain, leaf);
    if (certificate.roots.length === 0) throw refused("NO_ROOT", "no root certificate present");
    return certificate;
  }

  /** Each call gives a copy of the key of its own. */
  material(): CertificateMaterial {
    return {
      certificateChainPem: this.certificateChainPem,
      privateKey: this.#privateKey.exportPkcs8(),
      rootsPem: this.rootsPem,
    };
  }

  /** PEM of the key, for those who ask to keep it or to serve with node:tls. */
  exportPrivateKeyPem(): string {
    return this.#privateKey.exportPem();
  }
}

function refused(code: string, message: string): MeshError {
  return new MeshError(message, { code, side: "internal" });
}
