import { GEN_URI, NID_SUBJECT_ALT_NAME } from "./constants.ts";
import { copyBytes, OutWords } from "./native-memory.ts";
import { openssl, type Pointer } from "./openssl.ts";

/** What a leaf says about itself. `malformed` is set when its names cannot be trusted to mean one thing. */
export interface PeerNames {
  /** URI SANs in the order of the certificate; empty when `malformed`. */
  readonly uris: readonly string[];
  readonly malformed?: string;
}

/** A workload's certificate has one SAN, a gateway's a few: more is somebody trying something. */
const MAX_NAMES = 64;
/** SPIFFE ID §2.3: at most 2048 bytes. */
const MAX_URI_BYTES = 2048;

const words = new OutWords();

/**
 * The URI SANs of an X509, parsed by OpenSSL. Strict: a URI with anything but printable ASCII (so no NUL either), an
 * oversized one, too many names or a second SAN extension make the whole certificate malformed.
 */
export function readPeerNames(certificate: Pointer): PeerNames {
  const ssl = openssl();
  words.clear();
  const names = ssl.X509_get_ext_d2i(certificate, NID_SUBJECT_ALT_NAME, words.pointer, 0n);
  if (names === 0n) {
    // -1: there is no such extension; -2: more than one; otherwise it could not be parsed.
    const found = words.int32At(0);
    ssl.ERR_clear_error();
    return found === -1 ? { uris: [] } : malformed("its subject alternative name cannot be parsed");
  }
  try {
    return readNames(names);
  } finally {
    ssl.GENERAL_NAMES_free(names);
  }
}

/** notBefore or notAfter (an ASN1_TIME) in ms since the epoch; undefined when it is no time. */
export function readTime(time: Pointer): number | undefined {
  words.clear();
  if (time === 0n || openssl().ASN1_TIME_to_tm(time, words.pointer) !== 1) {
    openssl().ERR_clear_error();
    return undefined;
  }
  // struct tm: sec, min, hour, mday, mon (0…11), year since 1900, each an int.
  const field = (index: number) => words.int32At(index * 4);
  return Date.UTC(field(5) + 1900, field(4), field(3), field(2), field(1), field(0));
}

function readNames(names: Pointer): PeerNames {
  const ssl = openssl();
  const count = ssl.OPENSSL_sk_num(names);
  if (count > MAX_NAMES) return malformed(`it has ${count} subject alternative names (at most ${MAX_NAMES})`);
  const uris: string[] = [];
  for (let i = 0; i < count; i++) {
    const value = ssl.GENERAL_NAME_get0_value(ssl.OPENSSL_sk_value(names, i), words.pointer);
    if (words.int32At(0) !== GEN_URI) continue;
    const length = ssl.ASN1_STRING_length(value);
    if (length > MAX_URI_BYTES) return malformed(`it has a URI of ${length} bytes (at most ${MAX_URI_BYTES})`);
    const bytes = copyBytes(ssl.ASN1_STRING_get0_data(value), length);
    if (!bytes.every(isUriByte)) return malformed("it has a URI with bytes that no URI may have");
    uris.push(bytes.toString("latin1"));
  }
  return { uris };
}

/** RFC 3986: a URI is printable ASCII without space. */
function isUriByte(byte: number): boolean {
  return byte > 0x20 && byte < 0x7f;
}

function malformed(reason: string): PeerNames {
  return { uris: [], malformed: reason };
}
