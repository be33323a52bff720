export * from "./client.ts";
export type { Rejection, XdsResource, XdsTypeHandler, XdsUpdate } from "./client-type.ts";
export * from "./node.ts";
export type { TerminationReason } from "./reconnect.ts";
export * from "./server/ads-server.ts";
export { ResourceCache, type ResourceInput, type ResourceUpdate } from "./server/resource-cache.ts";
export {
  ADDRESSES,
  AUTHORIZATIONS,
  addressResource,
  authorizationResource,
  nodeKey,
  WORKLOADS,
} from "./server/wds-resources.ts";
export type { Ack, Nack, Push, TypeStatus, XdsPeer, XdsType } from "./server/stream.ts";
