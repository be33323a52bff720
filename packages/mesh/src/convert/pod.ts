import { canonicalIp } from "@tulle/base";
import { DEFAULT_SERVICE_ACCOUNT, newWorkload } from "../defaults.ts";
import type { Locality, PolicyKey, ServiceKey, Workload } from "../model.ts";
import { type MeshSettings, waypointFor, type WaypointReference } from "./context.ts";
import {
  annotationOf,
  byKey,
  type KubeNamespace,
  type KubeNode,
  type KubePod,
  type KubeService,
  type KubeServicePort,
  labelOf,
  nameOf,
  namespaceOf,
  selects,
} from "./kubernetes.ts";
import { serviceHostname, tcpFirst } from "./service.ts";

/** What a pod's workload depends on besides the pod. */
export interface PodContext {
  readonly settings: MeshSettings;
  readonly namespace: KubeNamespace | undefined;
  readonly node: KubeNode | undefined;
  /** Services of the pod's namespace; those that do not select it are left out here. */
  readonly services: readonly KubeService[];
  /** Keys that select the pod, in order (see `attachedPolicies`). */
  readonly policies: readonly PolicyKey[];
}

/** Set by the node agent while the pod's traffic goes through the mesh. */
export const REDIRECTION_ANNOTATION = "ambient.istio.io/redirection";
/** A comma list; `http`: the pod terminates HBONE itself. */
const TUNNEL_LABEL = "networking.istio.io/tunnel";

/** `undefined`: not a workload: ended, or without a (readable) address. */
export function convertPod(
  from: KubePod,
  context: PodContext,
): { readonly workload: Workload; readonly waypoint: WaypointReference | undefined } | undefined {
  const { settings } = context;
  const { phase, conditions } = from.status ?? {};
  const addresses = addressesOf(from);
  if (phase === "Succeeded" || phase === "Failed" || addresses === undefined) return undefined;
  const nativeTunnel = (labelOf(from, TUNNEL_LABEL) ?? "").split(",").includes("http");
  const meshed = nativeTunnel || annotationOf(from, REDIRECTION_ANNOTATION) === "enabled";
  const ready = conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
  const workloadName = workloadNameOf(from);
  // A namespace's waypoint handles services unless it says otherwise: pods do not inherit it.
  const waypoint = waypointFor(from, context.namespace, false, settings);
  const workload = newWorkload({
    uid: podUid(settings.clusterId, from),
    name: nameOf(from),
    namespace: namespaceOf(from),
    trustDomain: settings.trustDomain,
    serviceAccount: from.spec?.serviceAccountName || DEFAULT_SERVICE_ACCOUNT,
    addresses,
    network: settings.network,
    protocol: meshed ? "HBONE" : "TCP",
    hostNetwork: from.spec?.hostNetwork ?? false,
    nativeTunnel,
    node: from.spec?.nodeName ?? "",
    waypoint: waypoint?.address,
    services: membership(from, context),
    authorizationPolicies: context.policies,
    healthy: ready && from.metadata?.deletionTimestamp === undefined,
    clusterId: settings.clusterId,
    locality: localityOf(context.node),
    workloadName,
    workloadType: "pod",
    canonicalName:
      labelOf(from, "service.istio.io/canonical-name") ??
      labelOf(from, "app.kubernetes.io/name") ??
      labelOf(from, "app") ??
      workloadName,
    canonicalRevision:
      labelOf(from, "service.istio.io/canonical-revision") ??
      labelOf(from, "app.kubernetes.io/version") ??
      labelOf(from, "version") ??
      "latest",
  });
  return { workload, waypoint };
}

/** `<cluster>//Pod/<namespace>/<name>`. */
export function podUid(clusterId: string, pod: KubePod): string {
  return `${clusterId}//Pod/${namespaceOf(pod)}/${nameOf(pod)}`;
}

/** A service without selector selects nothing. */
export function selectsPod(service: KubeService, pod: KubePod): boolean {
  const selector = service.spec?.selector ?? {};
  if (namespaceOf(service) !== namespaceOf(pod) || Object.keys(selector).length === 0) return false;
  return selects(selector, pod.metadata?.labels);
}

function addressesOf(pod: KubePod): readonly string[] | undefined {
  const { podIP, podIPs } = pod.status ?? {};
  const listed = podIPs !== undefined && podIPs.length > 0 ? podIPs.map(({ ip }) => ip ?? "") : [podIP ?? ""];
  const addresses = listed.map(canonicalIp).filter((ip) => ip !== undefined);
  return addresses.length === listed.length ? addresses : undefined;
}

function membership(pod: KubePod, context: PodContext): ReadonlyMap<ServiceKey, ReadonlyMap<number, number>> {
  const members: (readonly [ServiceKey, ReadonlyMap<number, number>])[] = [];
  for (const service of context.services) {
    if (service.spec?.type === "ExternalName" || !selectsPod(service, pod)) continue;
    const key = `${namespaceOf(service)}/${serviceHostname(service, context.settings.clusterDomain)}`;
    const ports = new Map<number, number>();
    for (const port of tcpFirst(service.spec?.ports ?? [])) {
      const target = targetOf(port, pod);
      if (target !== undefined && !ports.has(port.port)) ports.set(port.port, target);
    }
    members.push([key, ports]);
  }
  return new Map(members.sort(byKey(([key]) => key)));
}

/** A named target port is the pod's own TCP port of that name; without one the service's port leads nowhere. */
function targetOf(port: KubeServicePort, pod: KubePod): number | undefined {
  const { targetPort } = port;
  if (typeof targetPort !== "string") return targetPort ?? port.port;
  const sidecars = pod.spec?.initContainers?.filter((container) => container.restartPolicy === "Always") ?? [];
  for (const container of [...(pod.spec?.containers ?? []), ...sidecars]) {
    for (const { name, containerPort, protocol } of container.ports ?? []) {
      if (name === targetPort && (protocol ?? "TCP") === "TCP") return containerPort;
    }
  }
  return undefined;
}

/** The label, else what made the pod, else the pod. */
function workloadNameOf(pod: KubePod): string {
  const label = labelOf(pod, "service.istio.io/workload-name");
  if (label !== undefined) return label;
  const owner = pod.metadata?.ownerReferences?.find(({ controller }) => controller === true);
  if (owner === undefined || (pod.metadata?.generateName ?? "") === "") return nameOf(pod);
  switch (owner.kind) {
    case "ReplicaSet": {
      const hash = labelOf(pod, "pod-template-hash") ?? labelOf(pod, "rollouts-pod-template-hash");
      const suffix = `-${hash}`;
      return hash !== undefined && owner.name.endsWith(suffix) ? owner.name.slice(0, -suffix.length) : owner.name;
    }
    case "ReplicationController":
      return labelOf(pod, "deploymentconfig") ?? owner.name;
    case "Job":
      return CRON_JOB.exec(owner.name)?.[1] ?? owner.name;
    default:
      return owner.name;
  }
}

/** A CronJob's Job is named after it and the minute it was due. */
const CRON_JOB = /^(.+)-\d{8,10}$/;

function localityOf(node: KubeNode | undefined): Locality {
  const label = (name: string) => (node && labelOf(node, name)) ?? "";
  return {
    region: label("topology.kubernetes.io/region"),
    zone: label("topology.kubernetes.io/zone"),
    subzone: label("topology.istio.io/subzone"),
  };
}
