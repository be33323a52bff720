import { join } from "node:path";
import { formatIdentity, type Identity, type Log, MeshError } from "@tulle/base";
import { CaClient, FileSecrets, type IdentityStore, SecretManager } from "@tulle/pki";
import type { Config } from "./config.ts";

/** Names of the files in TULLE_CERTIFICATES_DIR, as Istio names mounted certificates. */
const CHAIN_FILE = "cert-chain.pem";
const KEY_FILE = "key.pem";
const ROOTS_FILE = "root-cert.pem";

/** Where certificates come from: a CA, files (dedicated mode), or nowhere; then no handshake succeeds. */
export function createSecrets(config: Config, log: Log): IdentityStore {
  if (config.certificatesDirectory !== undefined) return fromFiles(config, config.certificatesDirectory, log);
  const { ca, clusterId, token } = config;
  if (ca === undefined) {
    return new SecretManager({
      source: { fetch: (identity) => Promise.reject(new Error(`no CA is configured for ${formatIdentity(identity)}`)) },
      log,
    });
  }
  const source = new CaClient({
    address: ca.address,
    roots: ca.roots,
    headers: ca.headers,
    token,
    clusterId,
    ttlSeconds: Math.round(config.secretTtlMs / 1000),
    impersonate: config.mode === "shared",
    log,
    ...(ca.altHostname === undefined ? {} : { altHostname: ca.altHostname }),
  });
  return new SecretManager({ source, log });
}

function fromFiles(config: Config, directory: string, log: Log): IdentityStore {
  const { workload } = config;
  if (config.mode !== "dedicated" || workload === undefined) {
    throw new MeshError("TULLE_CERTIFICATES_DIR holds the certificate of one workload: it needs PROXY_MODE=dedicated", {
      code: "INVALID_CONFIG",
      side: "internal",
    });
  }
  const identity: Identity = {
    trustDomain: config.trustDomain,
    namespace: workload.namespace,
    serviceAccount: workload.serviceAccount,
  };
  const file = (name: string) => join(directory, name);
  const files = { identity, certificateChain: file(CHAIN_FILE), privateKey: file(KEY_FILE), roots: file(ROOTS_FILE) };
  return new FileSecrets({ files: [files], log });
}
