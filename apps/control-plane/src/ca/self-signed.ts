import { type Log, MeshError, messageOf } from "@tulle/base";
import { type AuthorityOptions, CertificateAuthority } from "@tulle/pki";
import { SECRET, type Secret, type Store, StoreError } from "@tulle/store";
import type { AuthoritySource } from "./authority-source.ts";

export interface SelfSignedOptions {
  readonly store: Store;
  /** Where the Secret lives. */
  readonly namespace: string;
  /** O= of the root, as istiod has it. */
  readonly trustDomain: string;
  readonly rootTtlMs: number;
  readonly authority: AuthorityOptions;
  readonly log: Log;
}

/** Contracts of upstream: control-plane.md §4.3. */
export const CA_SECRET = "istio-ca-secret";
const CA_SECRET_TYPE = "istio.io/ca-root";
const CERTIFICATE_KEY = "ca-cert.pem";
const PRIVATE_KEY_KEY = "ca-key.pem";

/**
 * The mesh's own root, kept in the Secret `istio-ca-secret`: read, or made once, whoever of several replicas comes first.
 * Rejects with MeshError `BAD_AUTHORITY_SECRET` for a Secret that cannot be used (it is never overwritten), or StoreError.
 */
export async function selfSignedAuthority(options: SelfSignedOptions): Promise<AuthoritySource> {
  const { store, namespace, log } = options;
  const ref = { namespace, name: CA_SECRET };
  const origin = `Secret ${namespace}/${CA_SECRET}`;
  const known = await store.get(SECRET, ref);
  const secret = known ?? (await createOrRead(options));
  const authority = readSecret(secret, origin, options.authority);
  log.info(known === undefined ? "a new root of the mesh was made" : "the root of the mesh was read", {
    origin,
    expires: authority.certificate.validTo,
  });
  return { origin, current: () => authority, subscribe: () => () => undefined, close: () => undefined };
}

async function createOrRead(options: SelfSignedOptions): Promise<Secret> {
  const { store, namespace, trustDomain, rootTtlMs } = options;
  const made = await CertificateAuthority.selfSigned({ ...options.authority, organization: trustDomain, rootTtlMs });
  const { certificatePem, privateKeyPem } = made.exportPem();
  try {
    return await store.create<Secret>(SECRET, {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { namespace, name: CA_SECRET, labels: { "app.kubernetes.io/managed-by": "tulle" } },
      type: CA_SECRET_TYPE,
      data: { [CERTIFICATE_KEY]: toBase64(certificatePem), [PRIVATE_KEY_KEY]: toBase64(privateKeyPem) },
    });
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== "EXISTS") throw error;
    // Another replica was faster: its root is the mesh's.
    const theirs = await store.get(SECRET, { namespace, name: CA_SECRET });
    if (theirs === undefined) throw error;
    return theirs;
  }
}

function readSecret(secret: Secret, origin: string, options: AuthorityOptions): CertificateAuthority {
  const fields = [CERTIFICATE_KEY, PRIVATE_KEY_KEY].map((name) => secret.data?.[name]);
  const [certificate, privateKey] = fields;
  if (certificate === undefined || privateKey === undefined) {
    throw bad(`${origin} lacks ${CERTIFICATE_KEY} or ${PRIVATE_KEY_KEY}`);
  }
  const certificatePem = fromBase64(certificate);
  try {
    return CertificateAuthority.fromPem(
      { certificatePem, privateKeyPem: fromBase64(privateKey), rootsPem: certificatePem },
      options,
    );
  } catch (error) {
    throw bad(`${origin} cannot be used: ${messageOf(error)}`);
  }
}

function bad(what: string): MeshError {
  const advice = "repair it, or delete it to have a new root made (every proxy then needs a new certificate)";
  return new MeshError(`${what}; ${advice}`, { code: "BAD_AUTHORITY_SECRET", side: "internal" });
}

function toBase64(text: string): string {
  return Buffer.from(text).toString("base64");
}

function fromBase64(text: string): string {
  return Buffer.from(text, "base64").toString();
}
