import { convertAuthorizationPolicy, type ConvertedAuthorization } from "./convert/authorization-policy.ts";
import {
  DEFAULT_MESH_SETTINGS,
  type MeshSettings,
  type ObjectStatus,
  statusOf,
  waypointCondition,
} from "./convert/context.ts";
import {
  byKey,
  keyOf,
  type KubeNamespace,
  type KubeNode,
  type KubePod,
  type KubePolicy,
  type KubeService,
  type Labels,
  nameOf,
  namespaceOf,
  selects,
} from "./convert/kubernetes.ts";
import { PeerAuthentications, readPeerAuthentication } from "./convert/peer-authentication.ts";
import { convertPod } from "./convert/pod.ts";
import { convertService } from "./convert/service.ts";
import type { PolicyKey } from "./model.ts";
import { policyKey, serviceKey } from "./model.ts";
import type { PutChange } from "./resource-log.ts";

export {
  convertAuthorizationPolicy,
  type ConvertedAuthorization,
  type PolicySettings,
} from "./convert/authorization-policy.ts";
export * from "./convert/context.ts";
export * from "./convert/kubernetes.ts";
export * from "./convert/peer-authentication.ts";
export { type MeshChanges, MeshIndex, type MeshSizes } from "./convert/mesh-index.ts";
export { convertPod, type PodContext, podUid, REDIRECTION_ANNOTATION, selectsPod } from "./convert/pod.ts";
export { convertService, serviceHostname } from "./convert/service.ts";

/** Everything that the mesh is computed from. Pods are scheduled: address, node and readiness are in them. */
export interface KubeObjects {
  readonly namespaces: readonly KubeNamespace[];
  readonly pods: readonly KubePod[];
  readonly services: readonly KubeService[];
  readonly authorizationPolicies: readonly KubePolicy[];
  readonly peerAuthentications: readonly KubePolicy[];
  /** For localities. Default: none. */
  readonly nodes?: readonly KubeNode[];
}

export interface ConvertResult {
  /** Policies, services, workloads, each by key: equal objects give equal resources in equal order. */
  readonly resources: readonly PutChange[];
  /** By kind, namespace and name. */
  readonly statuses: readonly ObjectStatus[];
}

/**
 * Kubernetes objects → model (control-plane.md §2): the whole at once. `ResourceLog` makes the few changes of it; a
 * control plane that follows single objects calls the functions above instead.
 */
export function convert(objects: KubeObjects, settings: MeshSettings = DEFAULT_MESH_SETTINGS): ConvertResult {
  const statuses: ObjectStatus[] = [];
  const namespaces = new Map(objects.namespaces.map((namespace) => [nameOf(namespace), namespace]));
  const nodes = new Map((objects.nodes ?? []).map((node) => [nameOf(node), node]));
  const services = Map.groupBy(objects.services, namespaceOf);

  const authorizations = objects.authorizationPolicies.map((policy) => convertAuthorizationPolicy(policy, settings));
  for (const { status } of authorizations) if (status !== undefined) statuses.push(status);
  const rules = objects.peerAuthentications.map((policy) => readPeerAuthentication(policy, settings));
  const peers = new PeerAuthentications(rules, settings);
  statuses.push(...peers.statuses());
  const policies = [...authorizations.flatMap(({ policy }) => policy ?? []), ...peers.policies()];
  const selected = selectedPolicies(authorizations);

  const resources: PutChange[] = policies.sort(byKey(policyKey)).map((policy) => ({ kind: "policy", policy }));
  const convertedServices = objects.services.flatMap((from) => {
    const converted = convertService(from, namespaces.get(namespaceOf(from)), settings);
    return converted === undefined ? [] : { from, ...converted };
  });
  for (const { from, service, waypoint } of convertedServices.sort(byKey(({ service: one }) => serviceKey(one)))) {
    resources.push({ kind: "service", service });
    if (waypoint !== undefined)
      statuses.push(statusOf("Service", from, "istio-ambient-service", [waypointCondition(waypoint)]));
  }
  const convertedPods = objects.pods.flatMap((pod) => {
    const namespace = namespaceOf(pod);
    const context = {
      settings,
      namespace: namespaces.get(namespace),
      node: nodes.get(pod.spec?.nodeName ?? ""),
      services: services.get(namespace) ?? [],
      policies: attachedPolicies(pod, selected, peers, settings),
    };
    const converted = convertPod(pod, context);
    return converted === undefined ? [] : { pod, ...converted };
  });
  for (const { pod, workload, waypoint } of convertedPods.sort(byKey(({ workload: one }) => one.uid))) {
    resources.push({ kind: "workload", workload });
    if (waypoint !== undefined) statuses.push(statusOf("Pod", pod, "tulle-ambient-pod", [waypointCondition(waypoint)]));
  }
  return { resources, statuses: statuses.sort(byKey((status) => `${status.kind} ${status.namespace}/${status.name}`)) };
}

/** A policy with a selector, and where it selects. */
export interface SelectedPolicy {
  readonly key: PolicyKey;
  readonly namespace: string;
  readonly selector: Labels;
}

/** Policies that workloads name, by key. */
export function selectedPolicies(converted: Iterable<ConvertedAuthorization>): readonly SelectedPolicy[] {
  const selected: SelectedPolicy[] = [];
  for (const { policy, selector } of converted) {
    if (policy === undefined || selector === undefined) continue;
    selected.push({ key: policyKey(policy), namespace: policy.namespace, selector });
  }
  return selected.sort(byKey(({ key }) => key));
}

/** What a pod's workload names: policies of its own or the root namespace that select it, by key; then mutual TLS. */
export function attachedPolicies(
  pod: KubePod,
  selected: readonly SelectedPolicy[],
  peers: PeerAuthentications,
  settings: MeshSettings,
): readonly PolicyKey[] {
  const namespace = namespaceOf(pod);
  const labels = pod.metadata?.labels;
  const keys = selected
    .filter((policy) => policy.namespace === namespace || policy.namespace === settings.rootNamespace)
    .filter((policy) => selects(policy.selector, labels))
    .map((policy) => policy.key);
  const mutualTls = peers.attached(namespace, labels);
  return mutualTls === undefined ? keys : [...keys, mutualTls];
}

/** `namespace/name` of any object. */
export const objectKey = keyOf;
