/** Numbers of OpenSSL's public headers (3.x); the name says where to look. */

// ssl.h: results of SSL_get_error.
export const SSL_ERROR_WANT_READ = 2;
export const SSL_ERROR_ZERO_RETURN = 6;

// ssl.h: SSL_key_update.
export const SSL_KEY_UPDATE_NOT_REQUESTED = 0;

// ssl.h: SSL_CTX_ctrl commands and their arguments.
export const SSL_CTRL_MODE = 33;
export const SSL_CTRL_SET_READ_AHEAD = 41;
export const SSL_CTRL_SET_SESS_CACHE_MODE = 44;
export const SSL_CTRL_SET_GROUPS_LIST = 92;
export const SSL_CTRL_SET_MIN_PROTO_VERSION = 123;
export const SSL_CTRL_SET_MAX_PROTO_VERSION = 124;
export const SSL_SESS_CACHE_OFF = 0n;
export const SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 0x2n;
export const SSL_MODE_RELEASE_BUFFERS = 0x10n;
export const TLS1_3_VERSION = 0x304n;

// ssl.h: options and verification.
export const SSL_OP_NO_TICKET = 1n << 14n;
export const SSL_OP_NO_TX_CERTIFICATE_COMPRESSION = 1n << 32n;
export const SSL_OP_NO_RX_CERTIFICATE_COMPRESSION = 1n << 33n;
export const SSL_VERIFY_PEER = 1;
export const SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2;

// ssl.h, tls1.h: what callbacks return.
export const SSL_CLIENT_HELLO_ERROR = 0;
export const SSL_CLIENT_HELLO_SUCCESS = 1;
export const SSL_TLSEXT_ERR_OK = 0;
export const SSL_TLSEXT_ERR_ALERT_FATAL = 2;
export const SSL_AD_NO_APPLICATION_PROTOCOL = 120;
export const TLSEXT_TYPE_ALPN = 16;

// bio.h: BIO_ctrl commands and flags.
export const BIO_CTRL_RESET = 1;
export const BIO_C_GET_BUF_MEM_PTR = 115;
export const BIO_C_SET_BUF_MEM_EOF_RETURN = 130;
export const BIO_FLAGS_NONCLEAR_RST = 0x400;

// err.h, sslerr.h, pemerr.h: parts of a packed error code.
export const ERR_LIB_SSL = 20;
export const ERR_LIB_PEM = 9;
export const PEM_R_NO_START_LINE = 108;
/** An alert that the peer has sent arrives as this plus its number. */
export const SSL_AD_REASON_OFFSET = 1000;

// obj_mac.h, x509v3.h.
export const NID_SUBJECT_ALT_NAME = 85;
export const GEN_URI = 6;

// x509_vfy.h.
export const X509_V_OK = 0;
export const X509_V_ERR_CERT_NOT_YET_VALID = 9;
export const X509_V_ERR_CERT_HAS_EXPIRED = 10;
export const X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT = 18;
export const X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN = 19;
export const X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT = 2;
export const X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY = 20;
export const X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE = 21;
export const X509_V_ERR_CERT_SIGNATURE_FAILURE = 7;
export const X509_V_ERR_INVALID_PURPOSE = 26;
export const X509_V_ERR_APPLICATION_VERIFICATION = 50;
/** OpenSSL turns this one into the alert bad_certificate, the closest it has to "not whom I wanted". */
export const X509_V_ERR_HOSTNAME_MISMATCH = 62;
export const X509_V_FLAG_PARTIAL_CHAIN = 0x80000n;
