export { ZdsClient, type ZdsClientOptions } from "./client.ts";
export { MAX_PACKET, type PodInfo } from "./protocol.ts";
export { type AgentPod, ZdsServer, type ZdsServerOptions } from "./server.ts";
export {
  type PodNamespace,
  type ProxyRunner,
  StateManager,
  type StateManagerOptions,
  ZdsProtocolError,
} from "./state-manager.ts";
