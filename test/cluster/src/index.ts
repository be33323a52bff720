export { type ApiAnswer, ApiClient } from "./api-client.ts";
export { COREDNS_IMAGE, LABBOX_IMAGE } from "./artifacts.ts";
export { BOOKINFO_DEPLOYMENTS, bookinfo } from "./bookinfo.ts";
export { BridgeCapture } from "./bridge-capture.ts";
export { Cluster } from "./cluster.ts";
export { existingCluster, removeAbandoned } from "./clusters.ts";
export { configDumpFaults } from "./config-dump-shape.ts";
export { containerPid, type PodObject, type PodReference, podReference } from "./containers.ts";
export { ECHO_PORTS, type EchoAnswer, type EchoOptions, echo, echoAnswer } from "./echo.ts";
export { HeldConnection, type HoldFailure, type HoldOptions } from "./held-connection.ts";
export { type ImageFile, type ImageOptions, imageTar } from "./image-tar.ts";
export { Load, type LoadFailure, type LoadOptions, type LoadSummary } from "./load.ts";
export {
  type AccessLogLine,
  ENROL,
  isCaptured,
  MESH_NAMESPACE,
  Mesh,
  parseMetrics,
  type Sample,
  type TulleOptions,
} from "./mesh.ts";
export { Prometheus, type QueryResult } from "./prometheus.ts";
export { admissionOf, type Effect, type EffectOptions, refusalOf } from "./policy-effect.ts";
export { type ClusterSettings, clusterSettings, nodeAddress, nodeName, PLAN, podNetwork } from "./settings.ts";
export { type EndpointOptions, TestCluster, type TestClusterOptions } from "./test-cluster.ts";
