import type { Images } from "../resources/images.ts";
import type { Container, Deployment, PodSpec } from "../resources/kinds.ts";
import type { AddressPair } from "./addresses.ts";
import { ADDRESSES_ANNOTATION, type Pod, type PodMetadata } from "./pod.ts";
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
  readonly metadata: PodMetadata;
  readonly spec: PodSpec;
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

/** `namespace/name` of the Deployment that a pod was made for; undefined: it is the mesh's own. */
export function deploymentOf({ metadata }: Pod): string | undefined {
  const replicaSet = metadata.ownerReferences?.find(({ kind }) => kind === "ReplicaSet")?.name;
  const hash = metadata.labels[TEMPLATE_HASH_LABEL];
  if (replicaSet === undefined || hash === undefined || !replicaSet.endsWith(`-${hash}`)) return undefined;
  return `${metadata.namespace}/${replicaSet.slice(0, -hash.length - 1)}`;
}

/** A pod that has a node and addresses, and has not started. */
export function placedPod(wanted: WantedPod, place: { readonly nodeName: string; readonly address: AddressPair }): Pod {
  const { nodeName, address } = place;
  const { annotations } = wanted.metadata;
  const addresses = [address.v4, address.v6].filter((ip) => ip !== undefined).join(",");
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { ...wanted.metadata, annotations: { ...annotations, [ADDRESSES_ANNOTATION]: addresses } },
    spec: { ...wanted.spec, nodeName, serviceAccountName: wanted.spec.serviceAccountName ?? "default" },
  };
}

/** Command, arguments and environment of each container. */
export function resolveContainers(
  pod: Pod,
  place: { readonly address: AddressPair; readonly hostIP: string },
  images: Images,
  appFolder: string | undefined,
): ResolvedContainer[] {
  return pod.spec.containers.map((spec) => ({
    spec,
    command: [...(spec.command ?? images.get(spec.image ?? "") ?? []), ...(spec.args ?? [])],
    env: environmentOf(spec, pod, place),
    ...(appFolder === undefined ? {} : { appFolder }),
  }));
}

function environmentOf(
  container: Container,
  { metadata, spec }: Pod,
  { address, hostIP }: { readonly address: AddressPair; readonly hostIP: string },
): Record<string, string> {
  const fields: Readonly<Record<string, string>> = {
    "metadata.name": metadata.name,
    "metadata.namespace": metadata.namespace,
    "metadata.uid": metadata.uid ?? "",
    "spec.nodeName": spec.nodeName,
    "spec.serviceAccountName": spec.serviceAccountName,
    "status.podIP": address.v4,
    "status.hostIP": hostIP,
  };
  const entries = (container.env ?? []).map(({ name, value, valueFrom }) => [
    name,
    valueFrom === undefined ? (value ?? "") : (fields[valueFrom.fieldRef.fieldPath] ?? ""),
  ]);
  return Object.fromEntries(entries) as Record<string, string>;
}
