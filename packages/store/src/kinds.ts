import type { KubeObject, ResourceKind } from "./contract.ts";
import type * as builtin from "./objects/builtin.ts";
import type * as istio from "./objects/istio.ts";

/** Every kind that a part of Tulle reads or writes, in the version in which it is asked for. */

export const NAMESPACE = cluster<builtin.Namespace>("", "v1", "Namespace", "namespaces");
export const NODE = cluster<builtin.Node>("", "v1", "Node", "nodes");
export const POD = namespaced<builtin.Pod>("", "v1", "Pod", "pods");
export const SERVICE = namespaced<builtin.Service>("", "v1", "Service", "services");
export const SERVICE_ACCOUNT = namespaced<builtin.ServiceAccount>("", "v1", "ServiceAccount", "serviceaccounts");
export const CONFIG_MAP = namespaced<builtin.ConfigMap>("", "v1", "ConfigMap", "configmaps");
export const SECRET = namespaced<builtin.Secret>("", "v1", "Secret", "secrets");
export const EVENT = namespaced<builtin.Event>("", "v1", "Event", "events");
export const ENDPOINT_SLICE = namespaced<builtin.EndpointSlice>(
  "discovery.k8s.io",
  "v1",
  "EndpointSlice",
  "endpointslices",
);
export const DEPLOYMENT = namespaced<builtin.Deployment>("apps", "v1", "Deployment", "deployments");
export const DAEMON_SET = namespaced<builtin.DaemonSet>("apps", "v1", "DaemonSet", "daemonsets");
export const REPLICA_SET = namespaced<builtin.ReplicaSet>("apps", "v1", "ReplicaSet", "replicasets");
export const STATEFUL_SET = namespaced<builtin.StatefulSet>("apps", "v1", "StatefulSet", "statefulsets");
export const LEASE = namespaced<builtin.Lease>("coordination.k8s.io", "v1", "Lease", "leases");
export const POD_DISRUPTION_BUDGET = namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets");
export const HORIZONTAL_POD_AUTOSCALER = namespaced(
  "autoscaling",
  "v2",
  "HorizontalPodAutoscaler",
  "horizontalpodautoscalers",
);

/** Only `create` is served: the answer holds `status`. `metadata.name` is empty. Not in a directory. */
export const TOKEN_REVIEW = cluster<builtin.TokenReview>("authentication.k8s.io", "v1", "TokenReview", "tokenreviews");
/** Only `create` is served, as with TOKEN_REVIEW. */
export const SELF_SUBJECT_ACCESS_REVIEW = cluster<builtin.SelfSubjectAccessReview>(
  "authorization.k8s.io",
  "v1",
  "SelfSubjectAccessReview",
  "selfsubjectaccessreviews",
);

export const ROLE = namespaced("rbac.authorization.k8s.io", "v1", "Role", "roles");
export const ROLE_BINDING = namespaced("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings");
export const CLUSTER_ROLE = cluster("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles");
export const CLUSTER_ROLE_BINDING = cluster(
  "rbac.authorization.k8s.io",
  "v1",
  "ClusterRoleBinding",
  "clusterrolebindings",
);
export const CUSTOM_RESOURCE_DEFINITION = cluster<builtin.CustomResourceDefinition>(
  "apiextensions.k8s.io",
  "v1",
  "CustomResourceDefinition",
  "customresourcedefinitions",
);
export const MUTATING_WEBHOOK_CONFIGURATION = cluster(
  "admissionregistration.k8s.io",
  "v1",
  "MutatingWebhookConfiguration",
  "mutatingwebhookconfigurations",
);
export const VALIDATING_WEBHOOK_CONFIGURATION = cluster(
  "admissionregistration.k8s.io",
  "v1",
  "ValidatingWebhookConfiguration",
  "validatingwebhookconfigurations",
);

const SECURITY = "security.istio.io";
const NETWORKING = "networking.istio.io";
const GATEWAY_API = "gateway.networking.k8s.io";

export const AUTHORIZATION_POLICY = namespaced<istio.AuthorizationPolicy>(
  SECURITY,
  "v1",
  "AuthorizationPolicy",
  "authorizationpolicies",
);
export const PEER_AUTHENTICATION = namespaced<istio.PeerAuthentication>(
  SECURITY,
  "v1",
  "PeerAuthentication",
  "peerauthentications",
);
export const REQUEST_AUTHENTICATION = namespaced<istio.RequestAuthentication>(
  SECURITY,
  "v1",
  "RequestAuthentication",
  "requestauthentications",
);
export const SERVICE_ENTRY = namespaced<istio.ServiceEntry>(NETWORKING, "v1", "ServiceEntry", "serviceentries");
export const WORKLOAD_ENTRY = namespaced<istio.WorkloadEntry>(NETWORKING, "v1", "WorkloadEntry", "workloadentries");
export const DESTINATION_RULE = namespaced(NETWORKING, "v1", "DestinationRule", "destinationrules");
export const VIRTUAL_SERVICE = namespaced(NETWORKING, "v1", "VirtualService", "virtualservices");
export const TELEMETRY = namespaced("telemetry.istio.io", "v1", "Telemetry", "telemetries");

export const GATEWAY_CLASS = cluster<istio.GatewayClass>(GATEWAY_API, "v1", "GatewayClass", "gatewayclasses");
export const GATEWAY = namespaced<istio.Gateway>(GATEWAY_API, "v1", "Gateway", "gateways");
export const HTTP_ROUTE = namespaced(GATEWAY_API, "v1", "HTTPRoute", "httproutes");
export const GRPC_ROUTE = namespaced(GATEWAY_API, "v1", "GRPCRoute", "grpcroutes");
export const REFERENCE_GRANT = namespaced(GATEWAY_API, "v1beta1", "ReferenceGrant", "referencegrants");

/** All of the above. */
export const ALL_KINDS: readonly ResourceKind[] = [
  NAMESPACE,
  NODE,
  POD,
  SERVICE,
  SERVICE_ACCOUNT,
  CONFIG_MAP,
  SECRET,
  EVENT,
  ENDPOINT_SLICE,
  DEPLOYMENT,
  DAEMON_SET,
  REPLICA_SET,
  STATEFUL_SET,
  LEASE,
  POD_DISRUPTION_BUDGET,
  HORIZONTAL_POD_AUTOSCALER,
  TOKEN_REVIEW,
  SELF_SUBJECT_ACCESS_REVIEW,
  ROLE,
  ROLE_BINDING,
  CLUSTER_ROLE,
  CLUSTER_ROLE_BINDING,
  CUSTOM_RESOURCE_DEFINITION,
  MUTATING_WEBHOOK_CONFIGURATION,
  VALIDATING_WEBHOOK_CONFIGURATION,
  AUTHORIZATION_POLICY,
  PEER_AUTHENTICATION,
  REQUEST_AUTHENTICATION,
  SERVICE_ENTRY,
  WORKLOAD_ENTRY,
  DESTINATION_RULE,
  VIRTUAL_SERVICE,
  TELEMETRY,
  GATEWAY_CLASS,
  GATEWAY,
  HTTP_ROUTE,
  GRPC_ROUTE,
  REFERENCE_GRANT,
];

/** The kind of an object or of an owner reference, whichever version it names. Undefined: none of ALL_KINDS. */
export function kindOf(named: { readonly apiVersion: string; readonly kind: string }): ResourceKind | undefined {
  const { group } = splitApiVersion(named.apiVersion);
  return ALL_KINDS.find((kind) => kind.kind === named.kind && kind.group === group);
}

/** `v1`, or `apps/v1`: what objects of the kind have as `apiVersion`. */
export function apiVersionOf(kind: ResourceKind): string {
  return kind.group === "" ? kind.version : `${kind.group}/${kind.version}`;
}

/** `apps/v1` → `{group: "apps", version: "v1"}`; `v1` has the group `""`. */
export function splitApiVersion(apiVersion: string): { readonly group: string; readonly version: string } {
  const slash = apiVersion.indexOf("/");
  return slash < 0
    ? { group: "", version: apiVersion }
    : { group: apiVersion.slice(0, slash), version: apiVersion.slice(slash + 1) };
}

/** `pods`, or `deployments.apps`: how people and error messages name a kind. */
export function resourceName(kind: ResourceKind): string {
  return kind.group === "" ? kind.plural : `${kind.plural}.${kind.group}`;
}

function namespaced<T extends KubeObject>(
  group: string,
  version: string,
  kind: string,
  plural: string,
): ResourceKind<T> {
  return { group, version, kind, plural, namespaced: true };
}

function cluster<T extends KubeObject>(group: string, version: string, kind: string, plural: string): ResourceKind<T> {
  return { group, version, kind, plural, namespaced: false };
}
