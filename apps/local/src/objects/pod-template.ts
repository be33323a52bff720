import type { Images } from "../resources/images.ts";
import type { Container, Deployment, PodSpec } from "../resources/kinds.ts";
import type { AddressPair } from "./addresses.ts";
import type { Pod, PodMetadata } from "./pod.ts";
import { type PlannedPod, TEMPLATE_HASH_LABEL, uuidOf } from "./replicas.ts";

/** From what a user has written to a pod with everything decided: pure. */

/** A container with everything decided that Kubernetes decides when a pod starts. */
export interface ResolvedContainer {
  readonly spec: Container;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** A folder to run in instead of the user's; for pods of the mesh itself. */
  readonly appFolder?: string;
}

/** What is wanted, before it has a place. */
export interface WantedPod {
  readonly metadata: Omit<PodMetadata, "uid">;
  readonly spec: PodSpec;
  readonly appFolder?: string;
}

/** A pod of a Deployment. */
export function fromDeployment(deployment: Deployment, planned: PlannedPod): WantedPod {
  const { template } = deployment.spec;
  const { namespace } = deployment.metadata;
  const { name, replicaSet, templateHash } = planned;
  const owner = {
    apiVersion: "apps/v1",
    kind: "ReplicaSet",
    name: replicaSet,
    uid: uuidOf(`ReplicaSet ${namespace}/${replicaSet}`),
    controller: true,
  };
  return {
    metadata: {
      name,
      namespace,
      generateName: `${replicaSet}-`,
      labels: { ...template.metadata.labels, [TEMPLATE_HASH_LABEL]: templateHash },
      annotations: template.metadata.annotations ?? {},
      ownerReferences: [owner],
    },
    spec: template.spec,
  };
}

/** A pod that has a node and addresses, and has not started. */
export function placedPod(
  wanted: WantedPod,
  place: { readonly uid: string; readonly nodeName: string; readonly hostIP: string; readonly address: AddressPair },
): Pod {
  const { uid, nodeName, hostIP, address } = place;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { ...wanted.metadata, uid },
    spec: { ...wanted.spec, nodeName, serviceAccountName: wanted.spec.serviceAccountName ?? "default" },
    status: {
      phase: "Pending",
      podIP: address.v4,
      podIPs: [address.v4, address.v6].flatMap((ip) => (ip === undefined ? [] : [{ ip }])),
      hostIP,
      conditions: [{ type: "Ready", status: "False", reason: "Starting" }],
      containerStatuses: [],
    },
  };
}

/** Command, arguments and environment of each container. */
export function resolveContainers(pod: Pod, images: Images, appFolder: string | undefined): ResolvedContainer[] {
  return pod.spec.containers.map((spec) => ({
    spec,
    command: [...(spec.command ?? images.get(spec.image ?? "") ?? []), ...(spec.args ?? [])],
    env: environmentOf(spec, pod),
    ...(appFolder === undefined ? {} : { appFolder }),
  }));
}

function environmentOf(container: Container, pod: Pod): Record<string, string> {
  const fields: Readonly<Record<string, string>> = {
    "metadata.name": pod.metadata.name,
    "metadata.namespace": pod.metadata.namespace,
    "metadata.uid": pod.metadata.uid,
    "spec.nodeName": pod.spec.nodeName,
    "spec.serviceAccountName": pod.spec.serviceAccountName,
    "status.podIP": pod.status.podIP,
    "status.hostIP": pod.status.hostIP,
  };
  const entries = (container.env ?? []).map(({ name, value, valueFrom }) => [
    name,
    valueFrom === undefined ? (value ?? "") : (fields[valueFrom.fieldRef.fieldPath] ?? ""),
  ]);
  return Object.fromEntries(entries) as Record<string, string>;
}
