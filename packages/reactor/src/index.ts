export * from "./contract.ts";
export { EpollReactor, type EpollReactorOptions } from "./epoll-reactor.ts";
