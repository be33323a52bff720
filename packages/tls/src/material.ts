import { NativeBuffer } from "@tulle/linux";
import { ERR_LIB_PEM, PEM_R_NO_START_LINE, X509_V_FLAG_PARTIAL_CHAIN } from "./constants.ts";
import type { IdentityMaterial } from "./contract.ts";
import { openssl, type Pointer } from "./openssl.ts";
import { drainErrors, type TlsErrorCode, tlsError } from "./tls-error.ts";

/** Certificates in one PEM: a chain has two or three, a trust bundle a handful. */
const MAX_CERTIFICATES = 256;
const MAX_PEM_BYTES = 1 << 20;

/** IdentityMaterial as OpenSSL's own objects. Freed by `free`, whatever has taken references meanwhile. */
export class ParsedMaterial {
  readonly leaf: Pointer;
  /** The leaf's issuers, as a STACK_OF(X509). */
  readonly chain: Pointer;
  readonly key: Pointer;
  readonly store: Pointer;
  readonly #owned: (() => void)[] = [];

  /** Throws MeshError BAD_CERTIFICATE, BAD_KEY or BAD_ROOTS. Zeroes `material.privateKey` in any case. */
  constructor(material: IdentityMaterial) {
    const ssl = openssl();
    try {
      const certificates = this.#certificates(material.certificateChainPem, "BAD_CERTIFICATE", "the certificate chain");
      this.leaf = certificates[0] as Pointer;
      this.chain = ssl.OPENSSL_sk_new_null();
      this.#owned.push(() => ssl.OPENSSL_sk_free(this.chain));
      for (const issuer of certificates.slice(1)) ssl.OPENSSL_sk_push(this.chain, issuer);
      this.key = this.#key(material.privateKey);
      this.store = ssl.X509_STORE_new();
      this.#owned.push(() => ssl.X509_STORE_free(this.store));
      // Every root is an anchor as it stands, also one that is not self-signed (a plugged-in intermediate).
      ssl.X509_STORE_set_flags(this.store, X509_V_FLAG_PARTIAL_CHAIN);
      for (const root of this.#certificates(material.rootsPem, "BAD_ROOTS", "the trust bundle")) {
        if (ssl.X509_STORE_add_cert(this.store, root) !== 1)
          throw failure("BAD_ROOTS", "cannot use a root certificate");
      }
    } catch (error) {
      this.free();
      throw error;
    } finally {
      material.privateKey.fill(0);
      ssl.ERR_clear_error();
    }
  }

  free(): void {
    for (const release of this.#owned.splice(0).toReversed()) release();
  }

  #certificates(pem: string, code: TlsErrorCode, what: string): Pointer[] {
    const ssl = openssl();
    const found: Pointer[] = [];
    withBio(Buffer.from(pem, "utf8"), code, what, (bio) => {
      for (;;) {
        const certificate = ssl.PEM_read_bio_X509(bio, 0n, 0n, 0n);
        if (certificate === 0n) break;
        this.#owned.push(() => ssl.X509_free(certificate));
        found.push(certificate);
        if (found.length > MAX_CERTIFICATES)
          throw failure(code, `${what} has more than ${MAX_CERTIFICATES} certificates`);
      }
      const queued = drainErrors();
      const atEnd = queued?.library === ERR_LIB_PEM && queued.reason === PEM_R_NO_START_LINE;
      if (!atEnd) throw failure(code, `${what} is no valid PEM`, queued?.text);
      if (found.length === 0) throw failure(code, `${what} holds no certificate`);
    });
    return found;
  }

  #key(der: Uint8Array): Pointer {
    const ssl = openssl();
    let key = 0n;
    withBio(der, "BAD_KEY", "the private key", (bio) => {
      key = ssl.d2i_PrivateKey_bio(bio, 0n);
    });
    if (key === 0n) throw failure("BAD_KEY", "the private key is no valid PKCS #8 (DER)", drainErrors()?.text);
    this.#owned.push(() => ssl.EVP_PKEY_free(key));
    return key;
  }
}

/** Lets OpenSSL read a copy of `bytes`, and wipes the copy. */
function withBio(bytes: Uint8Array, code: TlsErrorCode, what: string, use: (bio: Pointer) => void): void {
  if (bytes.length === 0 || bytes.length > MAX_PEM_BYTES) throw failure(code, `${what} has ${bytes.length} bytes`);
  const ssl = openssl();
  const copy = NativeBuffer.from(bytes);
  const bio = ssl.BIO_new_mem_buf(copy.pointer, copy.length);
  if (bio === 0n) throw failure("TLS_INTERNAL", "OpenSSL has no memory for a BIO");
  try {
    use(bio);
  } finally {
    ssl.BIO_free(bio);
    copy.bytes.fill(0);
  }
}

function failure(code: TlsErrorCode, message: string, reason?: string) {
  return tlsError(code, "internal", reason === undefined ? message : `${message}: ${reason}`);
}
