export * from "./contract.ts";
export { EpollReactor, type EpollReactorOptions } from "./epoll-reactor.ts";
export { type NetworkFaults, SimulatedNamespace, SimulatedNetwork } from "./simulated/network.ts";
export type { SimulatedReactor } from "./simulated/reactor.ts";
