export * from "./backoff.ts";
export * from "./clock.ts";
export * from "./errors.ts";
export * from "./identity.ts";
export * from "./ip.ts";
export * from "./log.ts";
export * from "./ports.ts";
export * from "./well-known.ts";
