/**
 * The messages of the mesh's wire contracts, one namespace per protobuf package. A data thread imports types only:
 * `import type { wds } from "@tulle/api"`.
 */

/** istio.workload: workloads and services (WDS). */
export * as wds from "./gen/istio/workload/workload_pb.ts";
/** istio.workload.Extension, which WDS and policies share. */
export * as extension from "./gen/istio/workload/extension_pb.ts";
/** istio.security: authorization policies of the L4 proxy. */
export * as security from "./gen/istio/security/authorization_pb.ts";
/** istio.workload.zds: node agent to proxy. */
export * as zds from "./gen/istio/workload/zds/zds_pb.ts";
/** istio.v1.auth: the certificate authority. */
export * as ca from "./gen/istio/v1/auth/ca_pb.ts";
/** envoy.service.discovery.v3: discovery, incremental (delta) and whole. */
export * as ads from "./gen/envoy/service/discovery/v3/ads_pb.ts";
/** envoy.service.status.v3: how far clients are. */
export * as csds from "./gen/envoy/service/status/v3/csds_pb.ts";
/** envoy.config.core.v3: the Node. */
export * as core from "./gen/envoy/config/core/v3/base_pb.ts";
/** google.rpc.Status. */
export * as rpc from "./gen/google/rpc/status_pb.ts";
/** tulle.xds: the same response as `ads`, with its resources encoded already. */
export * as encoded from "./gen/tulle/xds/encoded_pb.ts";

/** Type URLs of the resources that a proxy subscribes to. */
export const ADDRESS_TYPE = "type.googleapis.com/istio.workload.Address";
export const AUTHORIZATION_TYPE = "type.googleapis.com/istio.security.Authorization";
/** Workloads only: for clients older than Address. */
export const WORKLOAD_TYPE = "type.googleapis.com/istio.workload.Workload";
