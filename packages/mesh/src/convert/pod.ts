import { canonicalIp } from "@tulle/base";
import { DEFAULT_SERVICE_ACCOUNT, newWorkload } from "../defaults.ts";
import type { Locality, Workload } from "../model.ts";
import type { Condition } from "./context.ts";
import { type KubeNode, type KubePod, labelOf, nameOf, namespaceOf } from "./kubernetes.ts";
import { type Candidates, podMembership } from "./membership.ts";
import { bindWaypoint, boundCondition } from "./waypoint-binding.ts";
import { canonicalOf, tunnelOf, type WorkloadContext } from "./workload-context.ts";

/** What a pod's workload depends on besides the pod. */
export interface PodContext extends WorkloadContext {
  readonly node: KubeNode | undefined;
  readonly candidates: Candidates;
}

const GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name";

/** `undefined`: not a workload: ended, or without a (readable) address. */
export function convertPod(
  from: KubePod,
  context: PodContext,
): { readonly workload: Workload; readonly conditions: readonly Condition[] } | undefined {
  const { settings, network, namespace, waypoints } = context;
  const addresses = podAddresses(from);
  if (addresses === undefined) return undefined;
  const ready = from.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
  const workloadName = workloadNameOf(from);
  const binding = bindWaypoint({ object: from, namespace, traffic: "workload", waypoints });
  const workload = newWorkload({
    uid: podUid(settings.clusterId, from),
    name: nameOf(from),
    namespace: namespaceOf(from),
    trustDomain: settings.trustDomain,
    serviceAccount: from.spec?.serviceAccountName || DEFAULT_SERVICE_ACCOUNT,
    addresses,
    network,
    ...tunnelOf(from),
    hostNetwork: from.spec?.hostNetwork ?? false,
    node: from.spec?.nodeName ?? "",
    waypoint: binding?.address,
    networkGateway: context.networkGateway(network),
    applicationTunnel: applicationTunnelOf(from, context),
    services: podMembership(from, context.candidates, settings.clusterDomain),
    authorizationPolicies: context.policies(from.metadata?.labels),
    healthy: ready && from.metadata?.deletionTimestamp === undefined,
    clusterId: settings.clusterId,
    locality: localityOf(context.node),
    workloadName,
    workloadType: "pod",
    ...canonicalOf(from.metadata?.labels, workloadName),
  });
  return { workload, conditions: binding === undefined ? [] : [boundCondition(binding)] };
}

/** `<cluster>//Pod/<namespace>/<name>`. */
export function podUid(clusterId: string, pod: KubePod): string {
  return `${clusterId}//Pod/${namespaceOf(pod)}/${nameOf(pod)}`;
}

/** Canonical addresses of a pod that runs or will run; undefined: it has ended, has none, or one cannot be read. */
export function podAddresses(pod: KubePod): readonly string[] | undefined {
  const { podIP, podIPs, phase } = pod.status ?? {};
  if (phase === "Succeeded" || phase === "Failed") return undefined;
  const listed = podIPs !== undefined && podIPs.length > 0 ? podIPs.map(({ ip }) => ip ?? "") : [podIP ?? ""];
  const addresses = listed.map(canonicalIp).filter((ip) => ip !== undefined);
  return addresses.length === listed.length ? addresses : undefined;
}

/** `namespace/name` of the Gateway whose instance the pod is. */
export function gatewayOf(pod: KubePod): string | undefined {
  const name = labelOf(pod, GATEWAY_NAME);
  return name === undefined ? undefined : `${namespaceOf(pod)}/${name}`;
}

function applicationTunnelOf(pod: KubePod, { waypoints }: WorkloadContext): Workload["applicationTunnel"] {
  const gateway = gatewayOf(pod);
  const waypoint = gateway === undefined ? undefined : waypoints(gateway);
  return waypoint?.address && waypoint.applicationTunnel;
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
