export * from "./contract.ts";
export { EpollReactor, type EpollReactorOptions } from "./epoll-reactor.ts";
export { CALM, type Capture, type NetworkFaults, SimulatedNamespace, SimulatedNetwork } from "./simulated/network.ts";
export type { SimulatedReactor } from "./simulated/reactor.ts";
