export { TlsContext, type TlsContextOptions } from "./context.ts";
export * from "./contract.ts";
export { type DeterministicTls, installDeterministicTls } from "./deterministic.ts";
export { liveTlsObjects, type TlsObjectKind } from "./ledger.ts";
export type { TlsErrorCode } from "./tls-error.ts";
