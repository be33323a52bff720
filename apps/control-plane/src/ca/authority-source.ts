import type { CertificateAuthority } from "@tulle/pki";

/** The authority that signs, which can be replaced by another one under the same root while the process runs. */
export interface AuthoritySource {
  /** Where it comes from, for the log: `Secret istio-system/istio-ca-secret`. */
  readonly origin: string;
  current(): CertificateAuthority;
  /** Called when `current` has changed. Returns the way to stop it. */
  subscribe(listener: () => void): () => void;
  close(): void;
}
