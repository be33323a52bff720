import { type ErrorSide, MeshError } from "@tulle/base";
import { ERR_LIB_SSL, SSL_AD_REASON_OFFSET } from "./constants.ts";
import { textAt } from "./native-memory.ts";
import { openssl } from "./openssl.ts";

/** Every code that an error of this package can have. */
export type TlsErrorCode =
  /** The handshake failed for another reason than those below. */
  | "HANDSHAKE_FAILED"
  /** What arrived is not TLS, or not TLS as it must be at this point. */
  | "PROTOCOL_ERROR"
  /** The peer offers no TLS version, group or cipher suite that is accepted here. */
  | "UNSUPPORTED_TLS"
  /** The peer does not speak HTTP/2 (ALPN `h2`). */
  | "NO_ALPN"
  | "NO_PEER_CERTIFICATE"
  | "CERTIFICATE_EXPIRED"
  | "CERTIFICATE_NOT_YET_VALID"
  | "UNKNOWN_CA"
  /** The peer's certificate is wrong in another way: signature, purpose, malformed names … */
  | "BAD_PEER_CERTIFICATE"
  | "IDENTITY_MISMATCH"
  | "TRUST_DOMAIN_MISMATCH"
  /** The peer has ended the connection with an alert: its verdict on us. */
  | "PEER_ALERT"
  // Our own material, thrown by TlsContext.create:
  | "BAD_CERTIFICATE"
  | "BAD_KEY"
  | "BAD_ROOTS"
  /** Something failed that no peer can cause (out of memory). */
  | "TLS_INTERNAL";

/** The oldest entry of OpenSSL's error queue, i.e. the cause; the rest only says through which functions it came. */
export interface QueuedError {
  readonly library: number;
  readonly reason: number;
  readonly text: string;
}

/** An error of OpenSSL can carry this many entries; a queue holds 16. */
const MAX_QUEUE = 32;

/** sslerr.h reasons with a code of their own. */
const UNSUPPORTED_REASONS = new Set([101, 193, 252, 258, 267, 295, 396]);
const PEER_DID_NOT_RETURN_A_CERTIFICATE = 199;
const NO_APPLICATION_PROTOCOL = 235;
/** Plain HTTP on a TLS port: worth its own text. */
const HTTP_REASONS = new Set([155, 156]);

/** RFC 8446 §6, the ones a peer may send. */
const ALERTS: Readonly<Record<number, string>> = {
  10: "unexpected_message",
  20: "bad_record_mac",
  22: "record_overflow",
  40: "handshake_failure",
  42: "bad_certificate",
  43: "unsupported_certificate",
  44: "certificate_revoked",
  45: "certificate_expired",
  46: "certificate_unknown",
  47: "illegal_parameter",
  48: "unknown_ca",
  49: "access_denied",
  50: "decode_error",
  51: "decrypt_error",
  70: "protocol_version",
  71: "insufficient_security",
  80: "internal_error",
  86: "inappropriate_fallback",
  90: "user_canceled",
  109: "missing_extension",
  110: "unsupported_extension",
  112: "unrecognized_name",
  113: "bad_certificate_status_response",
  115: "unknown_psk_identity",
  116: "certificate_required",
  120: "no_application_protocol",
};

export function tlsError(code: TlsErrorCode, side: ErrorSide, message: string): MeshError {
  return new MeshError(message, { code, side });
}

/** Takes everything out of this thread's error queue, so that nothing is left to confuse the next session. */
export function drainErrors(): QueuedError | undefined {
  const ssl = openssl();
  let first: QueuedError | undefined;
  for (let i = 0; i < MAX_QUEUE; i++) {
    const packed = ssl.ERR_get_error();
    if (packed === 0) break;
    // err.h: the library in bits 23…30, the reason in bits 0…22.
    first ??= {
      library: (packed >>> 23) & 0xff,
      reason: packed & 0x7f_ffff,
      text: textAt(ssl.ERR_reason_error_string(BigInt(packed))),
    };
  }
  return first;
}

/** Before a call whose failure will be read from the queue: SSL_get_error is only right when nothing was left in it. */
export function forgetErrors(): void {
  const ssl = openssl();
  // Looking is cheaper than clearing, and there is hardly ever anything.
  if (ssl.ERR_peek_error() !== 0) ssl.ERR_clear_error();
}

/** What went wrong in a session, from what OpenSSL has queued. `side` is where the peer is. */
export function sessionError(queued: QueuedError | undefined, side: ErrorSide, handshaking: boolean): MeshError {
  const doing = handshaking ? "TLS handshake failed" : "TLS connection failed";
  if (queued === undefined) return tlsError("PROTOCOL_ERROR", side, `${doing}: the peer broke the protocol`);
  if (queued.library !== ERR_LIB_SSL) {
    return tlsError(handshaking ? "HANDSHAKE_FAILED" : "PROTOCOL_ERROR", side, `${doing}: ${queued.text}`);
  }
  const { reason, text } = queued;
  if (reason > SSL_AD_REASON_OFFSET) {
    const alert = ALERTS[reason - SSL_AD_REASON_OFFSET] ?? `number ${reason - SSL_AD_REASON_OFFSET}`;
    return tlsError("PEER_ALERT", side, `${doing}: received fatal alert: ${alert}`);
  }
  if (reason === PEER_DID_NOT_RETURN_A_CERTIFICATE) {
    return tlsError("NO_PEER_CERTIFICATE", side, `${doing}: peer sent no certificate`);
  }
  if (reason === NO_APPLICATION_PROTOCOL) return tlsError("NO_ALPN", side, `${doing}: peer does not offer ALPN h2`);
  if (HTTP_REASONS.has(reason)) return tlsError("PROTOCOL_ERROR", side, `${doing}: peer speaks plain HTTP, not TLS`);
  if (UNSUPPORTED_REASONS.has(reason)) {
    return tlsError("UNSUPPORTED_TLS", side, `${doing}: peer supports nothing that is accepted here (${text})`);
  }
  return tlsError(handshaking ? "HANDSHAKE_FAILED" : "PROTOCOL_ERROR", side, `${doing}: ${text}`);
}
