import { createPublicKey, type KeyObject } from "node:crypto";
import { formatIdentity, type Identity, MeshError, messageOf } from "@tulle/base";
import { bitString, contextTag, objectIdentifier, octetString, sequence, set, smallInteger, TRUE } from "./der.ts";
import { fromPem, toPem } from "./pem.ts";
import type { PrivateKey } from "./private-key.ts";
import { loadX509 } from "./x509.ts";

/** A request whose signature was checked: whoever sent it holds the key. What it asks for is only asked. */
export interface CertificateRequest {
  readonly publicKey: KeyObject;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  readonly uriSans: readonly string[];
}

const LABEL = "CERTIFICATE REQUEST";
const OID_ECDSA_SHA256 = "1.2.840.10045.4.3.2";
const OID_EXTENSION_REQUEST = "1.2.840.113549.1.9.14";
const OID_SUBJECT_ALT_NAME = "2.5.29.17";
/** GeneralName: uniformResourceIdentifier. */
const URI_NAME = 6;

/** Far above any honest request (an RSA 4096 one has 1.7 kB). */
const MAX_CSR_BYTES = 16 * 1024;
/** RSA below this is weak; above the other, verifying costs too much. */
const MIN_RSA_BITS = 2048;
const MAX_RSA_BITS = 8192;
const CURVES = new Set(["prime256v1", "secp384r1", "secp521r1"]);

/** A PKCS #10 request (RFC 2986) with an empty subject and one critical URI name, signed with ECDSA and SHA-256. PEM. */
export function createCsr(identity: Identity, key: PrivateKey): string {
  const uri = Buffer.from(formatIdentity(identity), "latin1");
  const names = sequence(contextTag(URI_NAME, false, uri));
  const extension = sequence(objectIdentifier(OID_SUBJECT_ALT_NAME), TRUE, octetString(names));
  const attribute = sequence(objectIdentifier(OID_EXTENSION_REQUEST), set(sequence(extension)));
  const info = sequence(
    smallInteger(0),
    sequence(),
    key.publicKey.export({ type: "spki", format: "der" }),
    contextTag(0, true, attribute),
  );
  const algorithm = sequence(objectIdentifier(OID_ECDSA_SHA256));
  return toPem(LABEL, sequence(info, algorithm, bitString(key.sign(info))));
}

/** Parses a PEM request and checks its signature and the strength of its key. Throws MeshError `BAD_CSR`. */
export async function parseCsr(pem: string): Promise<CertificateRequest> {
  if (pem.length > MAX_CSR_BYTES) throw bad(`it is longer than ${MAX_CSR_BYTES} bytes`);
  const [der, ...more] = fromPem(LABEL, pem);
  if (der === undefined || more.length > 0) throw bad("it is not one PEM certificate request");
  const x509 = await loadX509();
  try {
    const request = new x509.Pkcs10CertificateRequest(der);
    const spki = new Uint8Array(request.publicKey.rawData);
    const publicKey = createPublicKey({ key: Buffer.from(spki), format: "der", type: "spki" });
    checkStrength(publicKey);
    if (!(await request.verify())) throw bad("its signature does not belong to its key");
    const names = request.getExtension(OID_SUBJECT_ALT_NAME);
    const items = names instanceof x509.SubjectAlternativeNameExtension ? names.names.items : [];
    const uriSans = items.filter((name) => name.type === "url").map((name) => name.value);
    return { publicKey, spki, uriSans };
  } catch (cause) {
    if (cause instanceof MeshError) throw cause;
    throw bad(messageOf(cause), cause);
  }
}

function checkStrength(key: KeyObject): void {
  const { modulusLength = 0, namedCurve = "" } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case "rsa":
      if (modulusLength >= MIN_RSA_BITS && modulusLength <= MAX_RSA_BITS) return;
      throw bad(`its RSA key has ${modulusLength} bits, not ${MIN_RSA_BITS} to ${MAX_RSA_BITS}`);
    case "ec":
      if (CURVES.has(namedCurve)) return;
      throw bad(`its curve ${namedCurve} is not P-256, P-384 or P-521`);
    default:
      throw bad(`its key is of the type ${key.asymmetricKeyType}, not RSA or EC`);
  }
}

function bad(why: string, cause?: unknown): MeshError {
  return new MeshError(`bad certificate request: ${why}`, { code: "BAD_CSR", side: "downstream", cause });
}
