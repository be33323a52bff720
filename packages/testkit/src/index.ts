export * from "./ca-memory.ts";
export * from "./ca-server.ts";
export * from "./fake-time.ts";
export * from "./kube-api-server.ts";
export * from "./reactor-compliance.ts";
export * from "./store-compliance.ts";
export * from "./xds-control-plane.ts";
export * from "./zds-agent.ts";
