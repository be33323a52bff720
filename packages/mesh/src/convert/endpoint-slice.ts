import { canonicalIp } from "@tulle/base";
import { newWorkload } from "../defaults.ts";
import type { Workload } from "../model.ts";
import type { KubeEndpointSlice } from "./istio-objects.ts";
import { type KubeService, labelOf, nameOf, namespaceOf } from "./kubernetes.ts";
import { slicePorts } from "./membership.ts";
import { serviceHostname } from "./service.ts";
import type { WorkloadContext } from "./workload-context.ts";

const SERVICE_NAME = "kubernetes.io/service-name";

/** `namespace/name` of the Service that the slice is of. */
export function sliceService(slice: KubeEndpointSlice): string | undefined {
  const name = labelOf(slice, SERVICE_NAME);
  return name === undefined ? undefined : `${namespaceOf(slice)}/${name}`;
}

/** Endpoints that are not pods. They are on the host's network: an address that a pod has stays the pod's. */
export function convertEndpointSlice(
  slice: KubeEndpointSlice,
  service: KubeService | undefined,
  context: Pick<WorkloadContext, "settings" | "network" | "networkGateway">,
): readonly Workload[] {
  const { settings, network } = context;
  if (service === undefined || service.spec?.type === "ExternalName" || slice.addressType === "FQDN") return [];
  const key = `${namespaceOf(service)}/${serviceHostname(service, settings.clusterDomain)}`;
  const services = new Map([[key, slicePorts(service, slice)]]);
  const workloads = new Map<string, Workload>();
  for (const { addresses = [], conditions, targetRef } of slice.endpoints ?? []) {
    const ips = addresses.map(canonicalIp).filter((ip) => ip !== undefined);
    const [first] = ips;
    if (targetRef?.kind === "Pod" || first === undefined || ips.length !== addresses.length) continue;
    const [namespace, name] = [namespaceOf(slice), nameOf(slice)];
    const uid = `${settings.clusterId}/discovery.k8s.io/EndpointSlice/${namespace}/${name}/${first}`;
    if (workloads.has(uid)) continue;
    const workload = newWorkload({
      uid,
      name,
      namespace,
      trustDomain: settings.trustDomain,
      serviceAccount: "",
      addresses: ips,
      network,
      networkGateway: context.networkGateway(network),
      hostNetwork: true,
      services,
      healthy: conditions?.ready ?? true,
      clusterId: settings.clusterId,
    });
    workloads.set(uid, workload);
  }
  return [...workloads.values()];
}
