import { formatIdentity, type Identity } from "@tulle/base";
import {
  CertificateAuthority,
  type CertificateSource,
  type SelfSignedOptions,
  type WorkloadCertificate,
} from "@tulle/pki";

/**
 * An authority without a network: a `CertificateSource` whose answers a test can hold back, fail and count.
 */
export class MemoryCa implements CertificateSource {
  readonly authority: CertificateAuthority;
  /** Of the certificates it issues; undefined: the authority's default. */
  ttlMs: number | undefined;
  /** Set: every request is answered with this error. */
  failure: Error | undefined;
  /** URIs in the order in which they were asked for. */
  readonly requests: string[] = [];
  #held: PromiseWithResolvers<void> | undefined;

  private constructor(authority: CertificateAuthority) {
    this.authority = authority;
  }

  static async create(options: SelfSignedOptions = {}): Promise<MemoryCa> {
    return new MemoryCa(await CertificateAuthority.selfSigned(options));
  }

  /** Requests wait from now on, until `release`. */
  hold(): void {
    this.#held ??= Promise.withResolvers();
  }

  release(): void {
    this.#held?.resolve();
    this.#held = undefined;
  }

  async fetch(identity: Identity): Promise<WorkloadCertificate> {
    this.requests.push(formatIdentity(identity));
    await this.#held?.promise;
    if (this.failure !== undefined) throw this.failure;
    return this.authority.issueIdentity(identity, this.ttlMs);
  }
}
