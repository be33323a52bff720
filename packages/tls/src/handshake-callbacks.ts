import { type ErrorSide, formatIdentity, type MeshError, messageOf } from "@tulle/base";
import { NativeBuffer } from "@tulle/linux";
import {
  SSL_AD_NO_APPLICATION_PROTOCOL,
  SSL_CLIENT_HELLO_ERROR,
  SSL_CLIENT_HELLO_SUCCESS,
  SSL_TLSEXT_ERR_ALERT_FATAL,
  SSL_TLSEXT_ERR_OK,
  TLSEXT_TYPE_ALPN,
  X509_V_ERR_APPLICATION_VERIFICATION,
  X509_V_ERR_HOSTNAME_MISMATCH,
} from "./constants.ts";
import { chainError } from "./chain-error.ts";
import type { PeerRequirement, TlsPeer } from "./contract.ts";
import { copyBytes, OutWords, writeByte, writeInt32, writePointer } from "./native-memory.ts";
import { nativeCallback, openssl, type Pointer } from "./openssl.ts";
import { readPeerNames, readTime } from "./peer-names.ts";
import { isRefusal, judgePeer } from "./peer-requirement.ts";
import { tlsError } from "./tls-error.ts";

/** One handshake, as the callbacks see it: they fill in `peer` or `refusal`. */
export interface HandshakeJudgement {
  readonly ssl: Pointer;
  readonly isServer: boolean;
  /** Where the peer is. */
  readonly side: ErrorSide;
  readonly requirement: PeerRequirement;
  peer: TlsPeer | undefined;
  refusal: MeshError | undefined;
}

/** Function pointers for SSL_CTX_set_…; one set per thread. */
export interface HandshakeCallbacks {
  readonly verify: Pointer;
  readonly clientHello: Pointer;
  readonly selectAlpn: Pointer;
}

/** The only protocol spoken inside (RFC 9113 §3.2). */
const H2 = Buffer.from("h2");
/** As ALPN lists it: length, name. */
export const ALPN_PROTOCOLS = NativeBuffer.from(Buffer.from([H2.length, ...H2]));
/** An extension is at most 64 KiB on the wire; nobody lists protocols for longer than this. */
const MAX_ALPN_BYTES = 1024;
const SUPPORTED_VERSIONS = 43;

const words = new OutWords();
let callbacks: HandshakeCallbacks | undefined;
let current: HandshakeJudgement | undefined;
let verificationTime: (() => number) | undefined;

/** Runs SSL_do_handshake; the callbacks that it causes belong to `judgement`. */
export function runHandshake(judgement: HandshakeJudgement): number {
  const outer = current;
  current = judgement;
  try {
    return openssl().SSL_do_handshake(judgement.ssl);
  } finally {
    current = outer;
  }
}

/** Certificates are judged at this time (ms since the epoch) instead of now; the simulation only. */
export function setVerificationTime(wall: () => number): void {
  verificationTime = wall;
}

/**
 * Registered once per thread and never taken back: OpenSSL may hold the addresses for as long as a session lives.
 * An exception must not get out of them (it would end the process), hence `guarded`: whatever goes wrong refuses the peer.
 */
export function handshakeCallbacks(): HandshakeCallbacks {
  callbacks ??= {
    verify: nativeCallback(["pointer", "pointer"], "i32", guarded(verify, 0)),
    clientHello: nativeCallback(["pointer", "pointer", "pointer"], "i32", guarded(clientHello, SSL_CLIENT_HELLO_ERROR)),
    selectAlpn: nativeCallback(
      ["pointer", "pointer", "pointer", "pointer", "u32", "pointer"],
      "i32",
      guarded(selectAlpn, SSL_TLSEXT_ERR_ALERT_FATAL),
    ),
  };
  return callbacks;
}

/** SSL_CTX_set_cert_verify_callback(3): 1 accepts. Chain, time and purpose are OpenSSL's; the names are ours. */
function verify(storeContext: Pointer): number {
  const ssl = openssl();
  const judgement = current;
  const owner = ssl.X509_STORE_CTX_get_ex_data(storeContext, ssl.SSL_get_ex_data_X509_STORE_CTX_idx());
  if (judgement === undefined || owner !== judgement.ssl) return 0;
  if (verificationTime !== undefined) {
    const seconds = BigInt(Math.floor(verificationTime() / 1000));
    ssl.X509_VERIFY_PARAM_set_time(ssl.X509_STORE_CTX_get0_param(storeContext), seconds);
  }
  if (ssl.X509_verify_cert(storeContext) !== 1) {
    judgement.refusal = chainError(storeContext, judgement.side);
    return 0;
  }
  const leaf = ssl.X509_STORE_CTX_get0_cert(storeContext);
  const refusal = judgeLeaf(leaf, judgement);
  if (refusal === undefined) return 1;
  judgement.refusal = refusal;
  ssl.X509_STORE_CTX_set_error(
    storeContext,
    refusal.code === "IDENTITY_MISMATCH" || refusal.code === "TRUST_DOMAIN_MISMATCH"
      ? X509_V_ERR_HOSTNAME_MISMATCH
      : X509_V_ERR_APPLICATION_VERIFICATION,
  );
  return 0;
}

function judgeLeaf(leaf: Pointer, judgement: HandshakeJudgement): MeshError | undefined {
  const { side } = judgement;
  const names = readPeerNames(leaf);
  if (names.malformed !== undefined) {
    return tlsError("BAD_PEER_CERTIFICATE", side, `invalid peer certificate: ${names.malformed}`);
  }
  const verdict = judgePeer(names.uris, judgement.requirement);
  if (isRefusal(verdict)) return tlsError(verdict.code, side, verdict.message);
  const notAfter = readTime(openssl().X509_get0_notAfter(leaf));
  if (notAfter === undefined) {
    return tlsError(
      "BAD_PEER_CERTIFICATE",
      side,
      `invalid peer certificate of ${formatIdentity(verdict)}: no end time`,
    );
  }
  // A client knows the server's choice of protocol by now; here a refusal still becomes an alert.
  if (!judgement.isServer && !hasSelectedH2(judgement.ssl)) {
    return tlsError("NO_ALPN", side, "TLS handshake failed: the server did not select ALPN h2");
  }
  judgement.peer = { identity: verdict, notAfter };
  return undefined;
}

/** SSL_CTX_set_client_hello_cb(3). Without it a client that sends no ALPN at all would be let in. */
function clientHello(ssl: Pointer, alert: Pointer): number {
  const judgement = current;
  if (judgement === undefined || judgement.ssl !== ssl) return SSL_CLIENT_HELLO_ERROR;
  const offered = helloExtension(ssl, TLSEXT_TYPE_ALPN);
  if (offered !== undefined && offersH2(offered.subarray(2))) return SSL_CLIENT_HELLO_SUCCESS;
  // A client older than TLS 1.3 is refused by OpenSSL for its version, which is the better reason.
  if (helloExtension(ssl, SUPPORTED_VERSIONS) === undefined) return SSL_CLIENT_HELLO_SUCCESS;
  judgement.refusal = tlsError("NO_ALPN", judgement.side, "TLS handshake failed: the client does not offer ALPN h2");
  writeInt32(alert, SSL_AD_NO_APPLICATION_PROTOCOL);
  return SSL_CLIENT_HELLO_ERROR;
}

/** SSL_CTX_set_alpn_select_cb(3): h2 or nothing. */
function selectAlpn(_ssl: Pointer, out: Pointer, outLength: Pointer, offered: Pointer, length: number): number {
  if (length > MAX_ALPN_BYTES || !offersH2(copyBytes(offered, length))) return SSL_TLSEXT_ERR_ALERT_FATAL;
  writePointer(out, ALPN_PROTOCOLS.pointerAt(1));
  writeByte(outLength, H2.length);
  return SSL_TLSEXT_ERR_OK;
}

/** The body of an extension of the ClientHello; undefined when it is absent or absurdly long. */
function helloExtension(ssl: Pointer, type: number): Buffer | undefined {
  words.clear();
  if (openssl().SSL_client_hello_get0_ext(ssl, type, words.pointer, words.second) !== 1) return undefined;
  const length = Number(words.pointerAt(1));
  return length > MAX_ALPN_BYTES ? undefined : copyBytes(words.pointerAt(0), length);
}

/** `list` is a sequence of length-prefixed names (RFC 7301 §3.1). */
function offersH2(list: Buffer): boolean {
  for (let at = 0; at < list.length; at += 1 + (list[at] as number)) {
    const name = list.subarray(at + 1, at + 1 + (list[at] as number));
    if (name.equals(H2)) return true;
  }
  return false;
}

function hasSelectedH2(ssl: Pointer): boolean {
  words.clear();
  openssl().SSL_get0_alpn_selected(ssl, words.pointer, words.second);
  const length = words.int32At(8);
  return length === H2.length && copyBytes(words.pointerAt(0), length).equals(H2);
}

function guarded<A extends readonly unknown[]>(body: (...args: A) => number, refused: number): (...args: A) => number {
  return (...args) => {
    try {
      return body(...args);
    } catch (error) {
      if (current !== undefined) {
        current.refusal = tlsError("TLS_INTERNAL", "internal", `cannot judge the TLS peer: ${messageOf(error)}`);
        current.peer = undefined;
      }
      return refused;
    }
  };
}
