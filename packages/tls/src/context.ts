import { NativeBuffer } from "@tulle/linux";
import {
  SSL_CTRL_MODE,
  SSL_CTRL_SET_GROUPS_LIST,
  SSL_CTRL_SET_MAX_PROTO_VERSION,
  SSL_CTRL_SET_MIN_PROTO_VERSION,
  SSL_CTRL_SET_READ_AHEAD,
  SSL_CTRL_SET_SESS_CACHE_MODE,
  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
  SSL_MODE_RELEASE_BUFFERS,
  SSL_OP_NO_RX_CERTIFICATE_COMPRESSION,
  SSL_OP_NO_TICKET,
  SSL_OP_NO_TX_CERTIFICATE_COMPRESSION,
  SSL_SESS_CACHE_OFF,
  SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
  SSL_VERIFY_PEER,
  TLS1_3_VERSION,
} from "./constants.ts";
import type { IdentityMaterial, PeerRequirement, TlsSession } from "./contract.ts";
import { ALPN_PROTOCOLS, handshakeCallbacks } from "./handshake-callbacks.ts";
import { born, freed } from "./ledger.ts";
import { ParsedMaterial } from "./material.ts";
import { openssl, type Pointer } from "./openssl.ts";
import { OpenSslSession } from "./session.ts";
import { drainErrors, type TlsErrorCode, tlsError } from "./tls-error.ts";

export interface TlsContextOptions {
  /** Only the post-quantum group X25519MLKEM768 (`COMPLIANCE_POLICY=pqc`). Default false. */
  readonly pqcOnly?: boolean;
  /** Records that a session writes under one key before it changes to the next (RFC 8446 §5.5). Default 2^22. */
  readonly recordsPerKey?: number;
}

/** Post-quantum first; P-256 and P-384 for peers with FIPS modules. */
const GROUPS = "X25519MLKEM768:X25519:P-256:P-384";
const PQC_GROUPS = "X25519MLKEM768";
/** TLS 1.3 suites of spec l4-ztunnel §2.6: no ChaCha20. */
const CIPHER_SUITES = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256";
/** Records are read from a feed in batches of this size: one feed of 128 KiB fits with what an earlier one left over. */
const READ_BUFFER_BYTES = 160 << 10;

/**
 * One identity: certificate, key and roots, ready for sessions of both sides. Sessions keep what they need of it, so a
 * context can be closed (and a newer one take its place) while they go on.
 */
export class TlsContext {
  #context: Pointer;
  readonly #recordsPerKey: number | undefined;

  private constructor(context: Pointer, recordsPerKey: number | undefined) {
    this.#context = context;
    this.#recordsPerKey = recordsPerKey;
    born("context");
  }

  /**
   * Parses the material and zeroes `material.privateKey`, also when it fails. Throws MeshError: BAD_CERTIFICATE, BAD_KEY
   * (not parsable, or not the leaf's key), BAD_ROOTS, OPENSSL_UNAVAILABLE.
   */
  static create(material: IdentityMaterial, options: TlsContextOptions = {}): TlsContext {
    const parsed = new ParsedMaterial(material);
    try {
      return new TlsContext(configure(parsed, options), options.recordsPerKey);
    } finally {
      parsed.free();
      drainErrors();
    }
  }

  /** A session that waits for a client. Its `requirement` is normally the own trust domain. */
  server(requirement: PeerRequirement): TlsSession {
    return this.#session(true, requirement);
  }

  /** A session that speaks first: `handshake`, then send. Its `requirement` is whom the server must be. */
  client(requirement: PeerRequirement): TlsSession {
    return this.#session(false, requirement);
  }

  /** No new sessions; existing ones go on. Idempotent. */
  close(): void {
    if (this.#context === 0n) return;
    openssl().SSL_CTX_free(this.#context);
    this.#context = 0n;
    freed("context");
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #session(isServer: boolean, requirement: PeerRequirement): TlsSession {
    if (this.#context === 0n) throw new Error("a closed TLS context was used");
    const recordsPerKey = this.#recordsPerKey;
    return new OpenSslSession({ context: this.#context, isServer, requirement, recordsPerKey });
  }
}

/** One SSL_CTX for both sides: certificate, roots and checks are the same, and it halves the memory per identity. */
function configure(material: ParsedMaterial, options: TlsContextOptions): Pointer {
  const ssl = openssl();
  const context = ssl.SSL_CTX_new(ssl.TLS_method());
  if (context === 0n) throw failure("TLS_INTERNAL", "cannot make a TLS context");
  try {
    const control = (command: number, value: bigint) => ssl.SSL_CTX_ctrl(context, command, value, 0n);
    const groups = NativeBuffer.from(Buffer.from(`${options.pqcOnly === true ? PQC_GROUPS : GROUPS}\0`));
    const callbacks = handshakeCallbacks();

    if (control(SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_3_VERSION) !== 1n) throw failure("TLS_INTERNAL", "no TLS 1.3");
    if (control(SSL_CTRL_SET_MAX_PROTO_VERSION, TLS1_3_VERSION) !== 1n) throw failure("TLS_INTERNAL", "no TLS 1.3");
    if (ssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_GROUPS_LIST, 0n, groups.pointer) !== 1n) {
      throw failure("TLS_INTERNAL", "OpenSSL lacks a group");
    }
    if (ssl.SSL_CTX_set_ciphersuites(context, CIPHER_SUITES) !== 1) throw failure("TLS_INTERNAL", "no cipher suites");

    // No resumption: it would skip the check of the peer's certificate. NO_TICKET alone still issues tickets.
    if (ssl.SSL_CTX_set_num_tickets(context, 0n) !== 1) throw failure("TLS_INTERNAL", "cannot switch off tickets");
    // By default OpenSSL compresses the certificate anew in each handshake, at Brotli's best: 40 % of its time.
    ssl.SSL_CTX_set_options(
      context,
      SSL_OP_NO_TICKET | SSL_OP_NO_TX_CERTIFICATE_COMPRESSION | SSL_OP_NO_RX_CERTIFICATE_COMPRESSION,
    );
    control(SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF);

    control(SSL_CTRL_MODE, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    control(SSL_CTRL_SET_READ_AHEAD, 1n);
    ssl.SSL_CTX_set_default_read_buffer_len(context, BigInt(READ_BUFFER_BYTES));

    ssl.SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, 0n);
    ssl.SSL_CTX_set_cert_verify_callback(context, callbacks.verify, 0n);
    ssl.SSL_CTX_set_client_hello_cb(context, callbacks.clientHello, 0n);
    ssl.SSL_CTX_set_alpn_select_cb(context, callbacks.selectAlpn, 0n);
    // 0 is success here.
    if (ssl.SSL_CTX_set_alpn_protos(context, ALPN_PROTOCOLS.pointer, ALPN_PROTOCOLS.length) !== 0) {
      throw failure("TLS_INTERNAL", "cannot set ALPN");
    }

    ssl.SSL_CTX_set1_cert_store(context, material.store);
    if (ssl.SSL_CTX_use_cert_and_key(context, material.leaf, material.key, material.chain, 1) !== 1) {
      throw failure("BAD_KEY", "the private key does not fit the certificate");
    }
    return context;
  } catch (error) {
    ssl.SSL_CTX_free(context);
    throw error;
  }
}

function failure(code: TlsErrorCode, message: string) {
  const reason = drainErrors()?.text;
  return tlsError(code, "internal", reason === undefined ? message : `${message}: ${reason}`);
}
