import type { Identity } from "@tulle/base";
import type { FetchPriority } from "./fetch-queue.ts";
import type { WorkloadCertificate } from "./workload-certificate.ts";

/** What `/config_dump` says of an identity. */
export type SecretState =
  | { readonly kind: "initializing" }
  | { readonly kind: "available"; readonly certificate: WorkloadCertificate }
  | { readonly kind: "unavailable"; readonly reason: string };

export interface SecretEntry {
  readonly identity: Identity;
  /** `spiffe://…` */
  readonly uri: string;
  readonly state: SecretState;
}

/** `certificate` is undefined once there is no valid one any more. */
export type CertificateListener = (identity: Identity, certificate: WorkloadCertificate | undefined) => void;

/** Where a proxy finds the certificates of its workloads: from an authority (`SecretManager`) or from files (`FileSecrets`). */
export interface IdentityStore {
  /**
   * The certificate that is valid now, or a wait for the first one. Default priority: realtime. Rejects with a MeshError:
   * its message is the reason.
   */
  get(identity: Identity, priority?: FetchPriority): Promise<WorkloadCertificate>;
  /** The certificate that is valid now, without a wait. */
  current(identity: Identity): WorkloadCertificate | undefined;
  /** Fetches soon, without a caller who waits. */
  warm(identity: Identity): void;
  /** Nobody needs it any more. */
  forget(identity: Identity): void;
  /** Sorted by URI. */
  entries(): SecretEntry[];
  /** Called with every new certificate, and when one ran out. Returns how to stop that. */
  subscribe(listener: CertificateListener): () => void;
  close(): void;
}
