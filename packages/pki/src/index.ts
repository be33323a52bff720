export * from "./authority.ts";
export * from "./ca-client.ts";
export * from "./ca-service.ts";
export {
  type CertificateInfo,
  certificatePem,
  describeCertificate,
  parseCertificates,
  uriSans,
} from "./certificate.ts";
export { type CertificateRequest, createCsr, parseCsr } from "./csr.ts";
export type { FetchPriority } from "./fetch-queue.ts";
export * from "./file-secrets.ts";
export { type FileWatch, type FileWatchOptions, watchFiles } from "./file-watch.ts";
export { type GrpcChannel, type GrpcChannelOptions, openGrpcChannel } from "./grpc-channel.ts";
export * from "./grpc-server.ts";
export * from "./identity-store.ts";
export { PrivateKey } from "./private-key.ts";
export type { RootSource } from "./roots.ts";
export * from "./secret-manager.ts";
export type { TokenSource } from "./token.ts";
export { TrustBundle } from "./trust-bundle.ts";
export * from "./workload-certificate.ts";
