import { isIP } from "node:net";
import { type Clock, type Log, messageOf } from "@tulle/base";
import { PrivateKey, spkiOf } from "@tulle/pki";
import type { AuthoritySource } from "./authority-source.ts";

export interface ServingCertificateOptions {
  readonly authority: AuthoritySource;
  /** DNS names and addresses. */
  readonly hosts: readonly string[];
  /** The authority's maximum counts too. */
  readonly maxTtlMs: number;
  readonly log: Log;
  readonly clock: Clock;
}

export interface KeyPairPem {
  readonly chainPem: string;
  readonly privateKeyPem: string;
}

/** Whoever steals the key can pose as the control plane for so long; renewing costs nothing. */
const TTL_MS = 24 * 3_600_000;
/** Renewed when this share of its life is over. */
const RENEW_AT = 0.5;
const RETRY_MS = 60_000;
const MIN_WAIT_MS = 1_000;

/** The certificate that clients see: signed by the mesh's own authority, renewed while the process runs. */
export class ServingCertificate {
  readonly #options: ServingCertificateOptions;
  readonly #onRenewed: (pair: KeyPairPem) => void;
  readonly #unsubscribe: () => void;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  private constructor(options: ServingCertificateOptions, onRenewed: (pair: KeyPairPem) => void, notAfter: number) {
    this.#options = options;
    this.#onRenewed = onRenewed;
    this.#unsubscribe = options.authority.subscribe(() => void this.#renew());
    this.#schedule(notAfter);
  }

  /** Makes the first one, and hands each later one to `onRenewed`. */
  static async start(
    options: ServingCertificateOptions,
    onRenewed: (pair: KeyPairPem) => void,
  ): Promise<{ readonly first: KeyPairPem; readonly certificate: ServingCertificate }> {
    const { pair, notAfter } = await issue(options);
    return { first: pair, certificate: new ServingCertificate(options, onRenewed, notAfter) };
  }

  close(): void {
    this.#closed = true;
    this.#unsubscribe();
    clearTimeout(this.#timer);
  }

  #schedule(notAfter: number): void {
    const left = notAfter - this.#options.clock.wall();
    this.#wait(Math.max(MIN_WAIT_MS, left * RENEW_AT));
  }

  #wait(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#renew(), ms);
    this.#timer.unref();
  }

  async #renew(): Promise<void> {
    try {
      const { pair, notAfter } = await issue(this.#options);
      if (this.#closed) return;
      this.#onRenewed(pair);
      this.#options.log.info("the server's certificate was renewed", { expires: new Date(notAfter).toISOString() });
      this.#schedule(notAfter);
    } catch (error) {
      this.#options.log.error("the server's certificate cannot be renewed", { error: messageOf(error) });
      this.#wait(RETRY_MS);
    }
  }
}

/** Names under which proxies reach the control plane (control-plane.md §3.1). */
export function servingHosts(options: {
  readonly namespace: string;
  readonly revision: string;
  readonly customHosts: readonly string[];
}): string[] {
  const { namespace, revision, customHosts } = options;
  const names = ["istiod", "istiod-remote", "istio-pilot"];
  if (revision !== "default") names.push(`istiod-${revision}`);
  return [...new Set([...names.map((name) => `${name}.${namespace}.svc`), ...customHosts])];
}

async function issue({ authority, hosts, maxTtlMs }: ServingCertificateOptions) {
  const key = PrivateKey.generate();
  const issued = await authority.current().issue({
    spki: spkiOf(key),
    dnsNames: hosts.filter((host) => isIP(host) === 0),
    ipAddresses: hosts.filter((host) => isIP(host) !== 0),
    ttlMs: Math.min(TTL_MS, maxTtlMs),
  });
  const pair: KeyPairPem = { chainPem: issued.chain.join(""), privateKeyPem: key.exportPem() };
  return { pair, notAfter: issued.notAfter };
}
