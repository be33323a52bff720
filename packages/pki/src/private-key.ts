import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { inspect } from "node:util";

const REDACTED = "[private key]";

/**
 * A private key that cannot be shown by accident: JSON, string conversion and inspection give a placeholder. It leaves the
 * object only through the methods that say so.
 */
export class PrivateKey {
  readonly #key: KeyObject;
  #publicKey: KeyObject | undefined;

  private constructor(key: KeyObject) {
    this.#key = key;
  }

  /** A fresh P-256 key. */
  static generate(): PrivateKey {
    return new PrivateKey(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey);
  }

  /** Reads an unencrypted PEM key (PKCS #8, SEC 1 or PKCS #1). Throws Error without a word of its content. */
  static fromPem(pem: string): PrivateKey {
    try {
      return new PrivateKey(createPrivateKey(pem));
    } catch {
      throw new Error("not an unencrypted PEM private key");
    }
  }

  get publicKey(): KeyObject {
    this.#publicKey ??= createPublicKey(this.#key);
    return this.#publicKey;
  }

  /** Signs with SHA-256; ECDSA signatures are DER. */
  sign(data: Uint8Array): Buffer {
    return sign("sha256", data, this.#key);
  }

  /** PKCS #8 DER in memory of its own, which the caller may zero. */
  exportPkcs8(): Uint8Array {
    const der = this.#key.export({ type: "pkcs8", format: "der" });
    const copy = Uint8Array.from(der);
    der.fill(0);
    return copy;
  }

  /** PKCS #8 PEM: for those who ask to keep a key. */
  exportPem(): string {
    return this.#key.export({ type: "pkcs8", format: "pem" });
  }

  /** For calls of node:crypto and node:tls. */
  keyObject(): KeyObject {
    return this.#key;
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [inspect.custom](): string {
    return REDACTED;
  }
}
