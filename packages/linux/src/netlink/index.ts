export { NamespaceProbe } from "./namespace-probe.ts";
export { type NamespaceState, namespaceAddresses, readNamespaceState } from "./namespace-state.ts";
export {
  CONNECTED_STATES,
  ConnectionTable,
  destroyTcpSockets,
  type SocketEntry,
  TcpState,
  tcpSockets,
  udpSockets,
} from "./tcp-sockets.ts";
