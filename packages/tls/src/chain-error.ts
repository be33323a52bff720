import type { ErrorSide, MeshError } from "@tulle/base";
import {
  X509_V_ERR_CERT_HAS_EXPIRED,
  X509_V_ERR_CERT_NOT_YET_VALID,
  X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
  X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
  X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
  X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
  X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
} from "./constants.ts";
import { textAt } from "./native-memory.ts";
import { openssl, type Pointer } from "./openssl.ts";
import { readPeerNames, readTime } from "./peer-names.ts";
import { type TlsErrorCode, tlsError } from "./tls-error.ts";

const UNKNOWN_CA = new Set([
  X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
  X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
  X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
  X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
  X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
]);

/** Why OpenSSL did not accept the chain, from the X509_STORE_CTX after X509_verify_cert. */
export function chainError(storeContext: Pointer, side: ErrorSide): MeshError {
  const ssl = openssl();
  const error = ssl.X509_STORE_CTX_get_error(storeContext);
  const depth = ssl.X509_STORE_CTX_get_error_depth(storeContext);
  const certificate = ssl.X509_STORE_CTX_get_current_cert(storeContext);
  const which = depth === 0 ? "it" : `the issuer ${depth} above it`;
  const problem = (code: TlsErrorCode, text: string) =>
    tlsError(code, side, `invalid peer certificate: ${text}${claimedName(storeContext)}`);

  if (error === X509_V_ERR_CERT_HAS_EXPIRED) {
    return problem("CERTIFICATE_EXPIRED", `${which} has expired${at(ssl.X509_get0_notAfter, certificate)}`);
  }
  if (error === X509_V_ERR_CERT_NOT_YET_VALID) {
    return problem("CERTIFICATE_NOT_YET_VALID", `${which} is not yet valid${at(ssl.X509_get0_notBefore, certificate)}`);
  }
  const text = textAt(ssl.X509_verify_cert_error_string(BigInt(error)));
  if (UNKNOWN_CA.has(error)) return problem("UNKNOWN_CA", `it was issued by an unknown CA (${text})`);
  return problem("BAD_PEER_CERTIFICATE", depth === 0 ? text : `${which}: ${text}`);
}

/** The name that the refused certificate claims, which nobody has verified: a help for whoever searches the cause. */
function claimedName(storeContext: Pointer): string {
  const leaf = openssl().X509_STORE_CTX_get0_cert(storeContext);
  const uri = leaf === 0n ? undefined : readPeerNames(leaf).uris[0];
  return uri === undefined ? "" : `; it claims to be ${uri}`;
}

function at(getTime: (certificate: Pointer) => Pointer, certificate: Pointer): string {
  const time = certificate === 0n ? undefined : readTime(getTime(certificate));
  return time === undefined ? "" : ` (${new Date(time).toISOString()})`;
}
