import { randomBytes, X509Certificate } from "node:crypto";
import { type Clock, formatIdentity, type Identity, MeshError, systemClock } from "@tulle/base";
import { certificatePem, isSelfSigned, parseCertificates } from "./certificate.ts";
import { type CertificateTemplate, signCertificate } from "./issue.ts";
import { PrivateKey } from "./private-key.ts";
import { TrustBundle } from "./trust-bundle.ts";
import { WorkloadCertificate } from "./workload-certificate.ts";

/** An authority's files, as `cacerts` holds them. All PEM. */
export interface AuthorityPem {
  /** The certificate that signs. */
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  /** One or more roots. */
  readonly rootsPem: string;
  /** From the signing certificate (with or without it) up to, but not needing, the root. Default: the root signed it. */
  readonly chainPem?: string;
}

export interface AuthorityOptions {
  readonly clock?: Clock;
  /** Of leaves that ask for nothing in particular. Default 24 h. */
  readonly defaultTtlMs?: number;
  /** A longer wish is refused. Default 90 days. */
  readonly maxTtlMs?: number;
}

export interface SelfSignedOptions extends AuthorityOptions {
  /** O= of the subject. Default `cluster.local`. */
  readonly organization?: string;
  /** Of the root (and of the intermediate). Default 3650 days. */
  readonly rootTtlMs?: number;
  /** Sign leaves with an intermediate, so that the root's key can be put away. Default false. */
  readonly intermediate?: boolean;
}

export interface LeafRequest {
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
  /** Not above 0, or absent: the default. */
  readonly ttlMs?: number;
}

export interface IssuedCertificate {
  /** PEM: the leaf, then each intermediate. */
  readonly chain: readonly string[];
  /** PEM: one or more roots. */
  readonly rootsPem: string;
  readonly notAfter: number;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const DEFAULT_TTL_MS = DAY_MS;
const MAX_TTL_MS = 90 * DAY_MS;
const ROOT_TTL_MS = 3650 * DAY_MS;
/** Clocks of a mesh differ a little: a leaf is valid at once everywhere. */
const BACKDATE_MS = 120_000;
const DEFAULT_ORGANIZATION = "cluster.local";

/** Signs leaves. Made by `CertificateAuthority.selfSigned` or `.fromPem`. */
export class CertificateAuthority {
  readonly trustBundle: TrustBundle;
  /** The signing certificate. */
  readonly certificate: X509Certificate;
  readonly #key: PrivateKey;
  /** Signing certificate first, roots left out. */
  readonly #intermediates: readonly string[];
  readonly #clock: Clock;
  readonly #defaultTtlMs: number;
  readonly #maxTtlMs: number;

  private constructor(
    material: { key: PrivateKey; certificate: X509Certificate; intermediates: readonly string[]; bundle: TrustBundle },
    options: AuthorityOptions,
  ) {
    this.certificate = material.certificate;
    this.trustBundle = material.bundle;
    this.#key = material.key;
    this.#intermediates = material.intermediates;
    this.#clock = options.clock ?? systemClock;
    this.#maxTtlMs = options.maxTtlMs ?? MAX_TTL_MS;
    this.#defaultTtlMs = Math.min(options.defaultTtlMs ?? DEFAULT_TTL_MS, this.#maxTtlMs);
  }

  /** A new root, kept in memory. */
  static async selfSigned(options: SelfSignedOptions = {}): Promise<CertificateAuthority> {
    const { clock = systemClock, organization = DEFAULT_ORGANIZATION, rootTtlMs = ROOT_TTL_MS } = options;
    const notBefore = clock.wall() - BACKDATE_MS;
    const validity = { notBefore, notAfter: notBefore + BACKDATE_MS + rootTtlMs };
    const rootKey = PrivateKey.generate();
    const root = await signCertificate(
      { ...validity, subject: { organization, commonName: "root" }, spki: spkiOf(rootKey), authority: true },
      { key: rootKey },
    );
    const authority = CertificateAuthority.fromPem(
      { certificatePem: root, privateKeyPem: rootKey.exportPem(), rootsPem: root },
      options,
    );
    return options.intermediate === true ? authority.issueIntermediate(options) : authority;
  }

  /**
   * A plugged-in authority. Throws MeshError `BAD_AUTHORITY` when the certificate may not sign, does not belong to the key,
   * or does not lead to one of the roots now.
   */
  static fromPem(pem: AuthorityPem, options: AuthorityOptions = {}): CertificateAuthority {
    const [certificate] = parseCertificates(pem.certificatePem);
    if (certificate === undefined) throw unusable("there is no certificate in its certificate file");
    const key = PrivateKey.fromPem(pem.privateKeyPem);
    const bundle = TrustBundle.fromPem(pem.rootsPem);
    if (!certificate.ca) throw unusable("its certificate may not sign others (CA:FALSE)");
    if (!certificate.checkPrivateKey(key.keyObject())) throw unusable("its certificate does not belong to its key");
    const above = parseCertificates(pem.chainPem ?? "").filter(
      (one) => one.fingerprint256 !== certificate.fingerprint256,
    );
    const chain = [certificate, ...above];
    const problem = bundle.problemWith(chain, (options.clock ?? systemClock).wall());
    if (problem !== undefined) throw unusable(problem);
    const intermediates = chain.filter((one) => !isSelfSigned(one)).map(certificatePem);
    return new CertificateAuthority({ key, certificate, intermediates, bundle }, options);
  }

  get rootsPem(): string {
    return this.trustBundle.pem;
  }

  /** Everything, the key included: for those who ask to keep it. */
  exportPem(): Required<AuthorityPem> {
    return {
      certificatePem: certificatePem(this.certificate),
      privateKeyPem: this.#key.exportPem(),
      rootsPem: this.rootsPem,
      chainPem: this.#intermediates.join(""),
    };
  }

  /**
   * Signs a leaf. Its end is no later than the signing certificate's. Throws MeshError `TTL_TOO_LONG` for more than the
   * maximum, `AUTHORITY_EXPIRED` when the signing certificate's time is over.
   */
  async issue(request: LeafRequest): Promise<IssuedCertificate> {
    const now = this.#clock.wall();
    const wanted = request.ttlMs !== undefined && request.ttlMs > 0 ? request.ttlMs : this.#defaultTtlMs;
    if (wanted > this.#maxTtlMs) {
      const text = `a certificate for ${wanted / 1000} s is more than the maximum of ${this.#maxTtlMs / 1000} s`;
      throw new MeshError(text, { code: "TTL_TOO_LONG", side: "downstream" });
    }
    const end = this.certificate.validToDate.getTime();
    if (end <= now) {
      const text = `the signing certificate expired at ${this.certificate.validTo}`;
      throw new MeshError(text, { code: "AUTHORITY_EXPIRED", side: "internal" });
    }
    const notAfter = Math.min(now + wanted, end);
    const template: CertificateTemplate = {
      ...request,
      serialNumber: randomSerial(),
      notBefore: now - BACKDATE_MS,
      notAfter,
      authority: false,
    };
    const leaf = await signCertificate(template, { key: this.#key, certificate: this.certificate });
    return { chain: [leaf, ...this.#intermediates], rootsPem: this.rootsPem, notAfter };
  }

  /** Another authority, below this one and for as long. */
  async issueIntermediate(
    options: AuthorityOptions & Pick<SelfSignedOptions, "organization"> = {},
  ): Promise<CertificateAuthority> {
    const { organization = DEFAULT_ORGANIZATION } = options;
    const key = PrivateKey.generate();
    const { validFromDate, validToDate } = this.certificate;
    const below = await signCertificate(
      {
        notBefore: validFromDate.getTime(),
        notAfter: validToDate.getTime(),
        subject: { organization, commonName: "intermediate" },
        spki: spkiOf(key),
        authority: true,
      },
      { key: this.#key, certificate: this.certificate },
    );
    const pem = { certificatePem: below, privateKeyPem: key.exportPem(), rootsPem: this.rootsPem };
    return CertificateAuthority.fromPem({ ...pem, chainPem: this.#intermediates.join("") }, options);
  }

  /** A key and a certificate for one identity, both made here: for tests and for what runs beside the authority. */
  async issueIdentity(identity: Identity, ttlMs?: number): Promise<WorkloadCertificate> {
    const privateKey = PrivateKey.generate();
    const request = { spki: spkiOf(privateKey), uris: [formatIdentity(identity)] };
    const issued = await this.issue(ttlMs === undefined ? request : { ...request, ttlMs });
    return WorkloadCertificate.create({
      identity,
      privateKey,
      chainPem: issued.chain.join(""),
      rootsPem: issued.rootsPem,
    });
  }
}

/** SubjectPublicKeyInfo, DER. */
export function spkiOf(key: PrivateKey): Uint8Array {
  return key.publicKey.export({ type: "spki", format: "der" });
}

/** 128 bits, positive, no leading zero byte. */
export function randomSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}

function unusable(why: string): MeshError {
  return new MeshError(`the certificate authority cannot be used: ${why}`, { code: "BAD_AUTHORITY", side: "internal" });
}
