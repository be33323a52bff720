export { type AcceptOptions, acceptHbone } from "./accept.ts";
export * from "./contract.ts";
export { type PlainRelayOptions, relayPlain } from "./plain-relay.ts";
export { HANDSHAKE_DEADLINE_MS, type Http2Sizes, threadMemory } from "./options.ts";
export { createTunnelPool, type TunnelPoolOptions } from "./pool.ts";
