import { DEFAULT_MESH_SETTINGS, type MeshObjectKind, type MeshSettings, type ObjectStatus } from "./convert/context.ts";
import type {
  KubeEndpointSlice,
  KubeGateway,
  KubeGatewayClass,
  KubeServiceEntry,
  KubeWorkloadEntry,
} from "./convert/istio-objects.ts";
import type {
  KubeNamespace,
  KubeNode,
  KubeObjectLike,
  KubePod,
  KubePolicy,
  KubeService,
} from "./convert/kubernetes.ts";
import { MeshIndex } from "./convert/mesh-index.ts";
import type { PutChange } from "./resource-log.ts";

export {
  convertAuthorizationPolicy,
  type ConvertedAuthorization,
  type PolicySettings,
} from "./convert/authorization-policy.ts";
export * from "./convert/context.ts";
export * from "./convert/istio-objects.ts";
export * from "./convert/kubernetes.ts";
export type { MeshChanges } from "./convert/ledger.ts";
export { type MeshConfig, type ParsedMeshConfig, parseMeshConfig } from "./convert/mesh-config.ts";
export { MeshIndex, type MeshSizes } from "./convert/mesh-index.ts";
export { MESH_OBJECT_KINDS } from "./convert/mesh-objects.ts";
export * from "./convert/peer-authentication.ts";
export { podAddresses, podUid } from "./convert/pod.ts";
export { serviceHostname } from "./convert/service.ts";
export { entryVisibility, serviceScope } from "./convert/visibility.ts";

/** Everything that the mesh is computed from. Pods are scheduled: address, node and readiness are in them. */
export interface KubeObjects {
  readonly namespaces: readonly KubeNamespace[];
  readonly pods: readonly KubePod[];
  readonly services: readonly KubeService[];
  readonly authorizationPolicies: readonly KubePolicy[];
  readonly peerAuthentications: readonly KubePolicy[];
  /** For localities. This and the following default to none. */
  readonly nodes?: readonly KubeNode[];
  readonly endpointSlices?: readonly KubeEndpointSlice[];
  readonly serviceEntries?: readonly KubeServiceEntry[];
  readonly workloadEntries?: readonly KubeWorkloadEntry[];
  readonly gateways?: readonly KubeGateway[];
  readonly gatewayClasses?: readonly KubeGatewayClass[];
}

export interface ConvertResult {
  /** Policies, services, workloads, each by key: equal objects give equal resources in equal order. */
  readonly resources: readonly PutChange[];
  /** By kind, namespace and name. */
  readonly statuses: readonly ObjectStatus[];
}

/** Kubernetes objects → model (control-plane.md §2): the whole at once. Who follows single objects takes `MeshIndex`. */
export function convert(objects: KubeObjects, settings: MeshSettings = DEFAULT_MESH_SETTINGS): ConvertResult {
  const index = new MeshIndex(settings);
  const put = (kind: MeshObjectKind, list: readonly KubeObjectLike[] = []) => {
    for (const object of list) index.put(kind, object);
  };
  put("Namespace", objects.namespaces);
  put("Node", objects.nodes);
  put("Pod", objects.pods);
  put("Service", objects.services);
  put("EndpointSlice", objects.endpointSlices);
  put("ServiceEntry", objects.serviceEntries);
  put("WorkloadEntry", objects.workloadEntries);
  put("Gateway", objects.gateways);
  put("GatewayClass", objects.gatewayClasses);
  put("AuthorizationPolicy", objects.authorizationPolicies);
  put("PeerAuthentication", objects.peerAuthentications);
  const { puts, statuses } = index.flush();
  return { resources: puts, statuses };
}
