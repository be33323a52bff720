import { readFileSync } from "node:fs";
import ffi from "node:ffi";
import { MeshError } from "@tulle/base";

/** An address that OpenSSL gave us; 0n is NULL. Never leaves this package. */
export type Pointer = bigint;

/** 3.5.0: the first version with X25519MLKEM768 in its default provider. */
const OLDEST_VERSION = 0x3050_0000;
/** The next major version may change what this package relies on. */
const FIRST_UNKNOWN_VERSION = 0x4000_0000;

const PTR = "pointer";
const INT = "i32";
const SIZE = "u64";
const TEXT = "string";

/**
 * The OpenSSL functions in use. Calls with up to three arguments are cheap (tens of nanoseconds), longer ones several
 * times that, so nothing on the path of a record takes four.
 */
const SIGNATURES = {
  OpenSSL_version_num: { arguments: [], return: SIZE },

  // Errors.
  ERR_clear_error: { arguments: [], return: "void" },
  // Packed errors fit 32 bits; a number is cheaper than a BigInt.
  ERR_peek_error: { arguments: [], return: "u32" },
  ERR_get_error: { arguments: [], return: "u32" },
  ERR_reason_error_string: { arguments: [SIZE], return: PTR },

  // Randomness, for the simulation.
  RAND_set_rand_method: { arguments: [PTR], return: INT },

  // Contexts.
  TLS_method: { arguments: [], return: PTR },
  SSL_CTX_new: { arguments: [PTR], return: PTR },
  SSL_CTX_free: { arguments: [PTR], return: "void" },
  SSL_CTX_ctrl: { arguments: [PTR, INT, "i64", PTR], return: "i64" },
  SSL_CTX_set_ciphersuites: { arguments: [PTR, TEXT], return: INT },
  SSL_CTX_set_num_tickets: { arguments: [PTR, SIZE], return: INT },
  SSL_CTX_set_options: { arguments: [PTR, SIZE], return: SIZE },
  SSL_CTX_set_verify: { arguments: [PTR, INT, PTR], return: "void" },
  SSL_CTX_set_cert_verify_callback: { arguments: [PTR, PTR, PTR], return: "void" },
  SSL_CTX_set_client_hello_cb: { arguments: [PTR, PTR, PTR], return: "void" },
  SSL_CTX_set_alpn_select_cb: { arguments: [PTR, PTR, PTR], return: "void" },
  SSL_CTX_set_alpn_protos: { arguments: [PTR, PTR, "u32"], return: INT },
  SSL_CTX_set_default_read_buffer_len: { arguments: [PTR, SIZE], return: "void" },
  SSL_CTX_use_cert_and_key: { arguments: [PTR, PTR, PTR, PTR, INT], return: INT },
  SSL_CTX_set1_cert_store: { arguments: [PTR, PTR], return: "void" },

  // Sessions.
  SSL_new: { arguments: [PTR], return: PTR },
  SSL_free: { arguments: [PTR], return: "void" },
  SSL_set_accept_state: { arguments: [PTR], return: "void" },
  SSL_set_connect_state: { arguments: [PTR], return: "void" },
  SSL_set0_rbio: { arguments: [PTR, PTR], return: "void" },
  SSL_set0_wbio: { arguments: [PTR, PTR], return: "void" },
  SSL_do_handshake: { arguments: [PTR], return: INT },
  SSL_read: { arguments: [PTR, PTR, INT], return: INT },
  SSL_peek: { arguments: [PTR, PTR, INT], return: INT },
  SSL_write: { arguments: [PTR, PTR, INT], return: INT },
  SSL_key_update: { arguments: [PTR, INT], return: INT },
  SSL_shutdown: { arguments: [PTR], return: INT },
  SSL_get_error: { arguments: [PTR, INT], return: INT },
  SSL_get0_alpn_selected: { arguments: [PTR, PTR, PTR], return: "void" },
  SSL_client_hello_get0_ext: { arguments: [PTR, "u32", PTR, PTR], return: INT },
  SSL_get_ex_data_X509_STORE_CTX_idx: { arguments: [], return: INT },

  // Memory BIOs.
  BIO_s_mem: { arguments: [], return: PTR },
  BIO_new: { arguments: [PTR], return: PTR },
  BIO_new_mem_buf: { arguments: [PTR, INT], return: PTR },
  BIO_free: { arguments: [PTR], return: INT },
  BIO_up_ref: { arguments: [PTR], return: INT },
  BIO_set_flags: { arguments: [PTR, INT], return: "void" },
  BIO_ctrl: { arguments: [PTR, INT, "i64", PTR], return: "i64" },
  BIO_ptr_ctrl: { arguments: [PTR, INT, "i64"], return: PTR },
  BIO_read: { arguments: [PTR, PTR, INT], return: INT },
  BIO_write: { arguments: [PTR, PTR, INT], return: INT },

  // Certificates and keys.
  PEM_read_bio_X509: { arguments: [PTR, PTR, PTR, PTR], return: PTR },
  d2i_PrivateKey_bio: { arguments: [PTR, PTR], return: PTR },
  EVP_PKEY_free: { arguments: [PTR], return: "void" },
  X509_free: { arguments: [PTR], return: "void" },
  X509_get_ext_d2i: { arguments: [PTR, INT, PTR, PTR], return: PTR },
  X509_get0_notAfter: { arguments: [PTR], return: PTR },
  X509_get0_notBefore: { arguments: [PTR], return: PTR },
  ASN1_TIME_to_tm: { arguments: [PTR, PTR], return: INT },
  ASN1_STRING_get0_data: { arguments: [PTR], return: PTR },
  ASN1_STRING_length: { arguments: [PTR], return: INT },
  GENERAL_NAME_get0_value: { arguments: [PTR, PTR], return: PTR },
  GENERAL_NAMES_free: { arguments: [PTR], return: "void" },
  OPENSSL_sk_new_null: { arguments: [], return: PTR },
  OPENSSL_sk_push: { arguments: [PTR, PTR], return: INT },
  OPENSSL_sk_num: { arguments: [PTR], return: INT },
  OPENSSL_sk_value: { arguments: [PTR, INT], return: PTR },
  OPENSSL_sk_free: { arguments: [PTR], return: "void" },
  X509_STORE_new: { arguments: [], return: PTR },
  X509_STORE_free: { arguments: [PTR], return: "void" },
  X509_STORE_add_cert: { arguments: [PTR, PTR], return: INT },
  X509_STORE_set_flags: { arguments: [PTR, SIZE], return: INT },
  X509_STORE_CTX_get0_cert: { arguments: [PTR], return: PTR },
  X509_STORE_CTX_get0_param: { arguments: [PTR], return: PTR },
  X509_STORE_CTX_get_current_cert: { arguments: [PTR], return: PTR },
  X509_STORE_CTX_get_error: { arguments: [PTR], return: INT },
  X509_STORE_CTX_get_error_depth: { arguments: [PTR], return: INT },
  X509_STORE_CTX_get_ex_data: { arguments: [PTR, INT], return: PTR },
  X509_STORE_CTX_set_error: { arguments: [PTR, INT], return: "void" },
  X509_VERIFY_PARAM_set_time: { arguments: [PTR, "i64"], return: "void" },
  X509_verify_cert: { arguments: [PTR], return: INT },
  X509_verify_cert_error_string: { arguments: ["i64"], return: PTR },
} as const satisfies ffi.FunctionDefinitions;

export type OpenSsl = ReturnType<typeof bind>;

const libraries: ffi.DynamicLibrary[] = [];
let bound: OpenSsl | undefined;

/**
 * OpenSSL as this thread reaches it: the symbols that the node binary exports, or else the shared libssl that Node has
 * loaded. Throws MeshError OPENSSL_UNAVAILABLE.
 */
export function openssl(): OpenSsl {
  // Null: the process itself.
  bound ??= bindFirst([null, ...sharedOpenSsl(readFileSync("/proc/self/maps", "utf8"))]);
  return bound;
}

/** A C function pointer that runs `callback` on this thread, for as long as the thread lives. `callback` must not throw. */
export function nativeCallback(
  args: readonly ffi.ArgumentType[],
  returns: ffi.ReturnType,
  callback: (...args: never[]) => number | bigint | void,
): Pointer {
  openssl();
  const library = libraries[0] as ffi.DynamicLibrary;
  return library.registerCallback({ arguments: args, return: returns }, callback as ffi.CallbackFunction);
}

/** The first of these libraries (null: the process itself) that is an OpenSSL of a known version. */
export function bindFirst(paths: readonly (string | null)[]): OpenSsl {
  let reason: unknown;
  for (const path of paths) {
    try {
      const functions = bind(path);
      const version = Number(functions.OpenSSL_version_num());
      if (version >= OLDEST_VERSION && version < FIRST_UNKNOWN_VERSION) return functions;
      reason = new Error(`${path ?? "the node binary"} has OpenSSL 0x${version.toString(16)}`);
    } catch (error) {
      reason = error;
    }
  }
  throw new MeshError(
    `no OpenSSL 3.5 or newer 3.x found in this Node.js (${process.version}, OpenSSL ${process.versions.openssl}): ` +
      "neither does the binary export it nor is a shared libssl loaded; use an official build of Node.js 26.10 or newer",
    { code: "OPENSSL_UNAVAILABLE", side: "internal", cause: reason },
  );
}

function bind(path: string | null) {
  const library = new ffi.DynamicLibrary(path);
  // A copy, because Node's own object has no prototype, which V8 keeps as a hash table: every call would be a slow look-up.
  const functions = { ...library.getFunctions(SIGNATURES) };
  libraries.unshift(library);
  return functions;
}

/**
 * Paths of libssl in /proc/self/maps: a Node that was built against a shared OpenSSL has it mapped already. A handle on
 * libssl reaches libcrypto's symbols too.
 */
export function sharedOpenSsl(maps: string): string[] {
  const paths = new Set<string>();
  for (const line of maps.split("\n")) {
    const [path] = /\/\S*\/libssl\.so[.\d]*$/.exec(line) ?? [];
    if (path !== undefined) paths.add(path);
  }
  return [...paths];
}
