import { generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import type { IdentityMaterial } from "../contract.ts";
import { bits, boolean, integer, octets, oid, pem, sequence, set, time, tlv, utf8 } from "./der.ts";

export interface Validity {
  /** ms since the epoch. Default: an hour ago, in an hour. */
  readonly notBefore?: number;
  readonly notAfter?: number;
}

export interface LeafOptions extends Validity {
  /** URI SANs. Default: none, and then no SAN extension either. */
  readonly uris?: readonly string[];
  /** The SAN extension's value as it is, instead of `uris`: for malformed ones. */
  readonly rawSan?: Uint8Array;
  /** The SAN extension appears this often. Default 1. */
  readonly sanCopies?: number;
  /** OIDs of the extended key usage. Default: no such extension. */
  readonly extendedKeyUsage?: readonly string[];
}

export const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
export const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

const HOUR_MS = 3_600_000;
const ECDSA_WITH_SHA256 = sequence(oid("1.2.840.10045.4.3.2"));

/** A certificate authority for tests. Everything lives in memory, P-256 throughout. */
export class TestCa {
  readonly #key: KeyObject;
  readonly #name: Buffer;
  readonly #chain: string;
  /** The trust anchor, PEM. */
  readonly rootPem: string;

  private constructor(key: KeyObject, name: Buffer, chain: string, rootPem: string) {
    this.#key = key;
    this.#name = name;
    this.#chain = chain;
    this.rootPem = rootPem;
  }

  static create(name = "test root", validity: Validity = {}): TestCa {
    const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const subject = nameOf(name);
    const certificate = certify({
      ...validity,
      subject,
      issuer: subject,
      publicKey,
      key: privateKey,
      extensions: caExtensions(),
    });
    return new TestCa(privateKey, subject, "", pem("CERTIFICATE", certificate));
  }

  /** A CA below this one; what it issues carries its certificate in the chain. */
  intermediate(name = "test intermediate"): TestCa {
    const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const subject = nameOf(name);
    const certificate = certify({
      subject,
      issuer: this.#name,
      publicKey,
      key: this.#key,
      extensions: caExtensions(),
    });
    return new TestCa(privateKey, subject, pem("CERTIFICATE", certificate) + this.#chain, this.rootPem);
  }

  /** A leaf with a key of its own. `roots` defaults to this CA's. */
  issue(options: LeafOptions = {}, roots: string = this.rootPem): IdentityMaterial {
    const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const extensions = [extension("2.5.29.15", true, bits(Buffer.from([0x80]), 7))];
    const san = options.rawSan ?? (options.uris && sequence(...options.uris.map(uriName)));
    const copies = san === undefined ? [] : Array<Uint8Array>(options.sanCopies ?? 1).fill(san);
    for (const copy of copies) extensions.push(extension("2.5.29.17", false, copy));
    if (options.extendedKeyUsage !== undefined) {
      extensions.push(extension("2.5.29.37", false, sequence(...options.extendedKeyUsage.map(oid))));
    }
    const certificate = certify({
      ...options,
      subject: sequence(),
      issuer: this.#name,
      publicKey,
      key: this.#key,
      extensions,
    });
    return {
      certificateChainPem: pem("CERTIFICATE", certificate) + this.#chain,
      privateKey: privateKey.export({ type: "pkcs8", format: "der" }),
      rootsPem: roots,
    };
  }

  /** A leaf of `spiffe://cluster.local/ns/<namespace>/sa/<name>`. */
  workload(name: string, namespace = "default", trustDomain = "cluster.local"): IdentityMaterial {
    return this.issue({ uris: [spiffe(name, namespace, trustDomain)] });
  }
}

export function spiffe(name: string, namespace = "default", trustDomain = "cluster.local"): string {
  return `spiffe://${trustDomain}/ns/${namespace}/sa/${name}`;
}

/** The material again, to be used more than once: `TlsContext.create` zeroes the key it is given. */
export function copyOf(material: IdentityMaterial): IdentityMaterial {
  return { ...material, privateKey: Uint8Array.from(material.privateKey) };
}

/** A GeneralName of type URI; `bytes` may be anything. */
export function uriName(bytes: string | Uint8Array): Buffer {
  return tlv(0x86, typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
}

interface CertificateFields extends Validity {
  readonly subject: Buffer;
  readonly issuer: Buffer;
  readonly publicKey: KeyObject;
  readonly key: KeyObject;
  readonly extensions: readonly Buffer[];
}

/** RFC 5280 §4.1. */
function certify(fields: CertificateFields): Buffer {
  const { notBefore = Date.now() - HOUR_MS, notAfter = Date.now() + HOUR_MS } = fields;
  const toBeSigned = sequence(
    tlv(0xa0, integer(Buffer.from([2]))),
    integer(randomBytes(8)),
    ECDSA_WITH_SHA256,
    fields.issuer,
    sequence(time(notBefore), time(notAfter)),
    fields.subject,
    fields.publicKey.export({ type: "spki", format: "der" }),
    tlv(0xa3, sequence(...fields.extensions)),
  );
  return sequence(toBeSigned, ECDSA_WITH_SHA256, bits(sign("sha256", toBeSigned, fields.key)));
}

function caExtensions(): Buffer[] {
  return [
    extension("2.5.29.19", true, sequence(boolean(true))),
    extension("2.5.29.15", true, bits(Buffer.from([0x06]), 1)),
  ];
}

function extension(id: string, critical: boolean, value: Uint8Array): Buffer {
  return critical ? sequence(oid(id), boolean(true), octets(value)) : sequence(oid(id), octets(value));
}

function nameOf(commonName: string): Buffer {
  return sequence(set(sequence(oid("2.5.4.3"), utf8(commonName))));
}
