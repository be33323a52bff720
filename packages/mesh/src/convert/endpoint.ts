import { canonicalIp } from "@tulle/base";
import { DEFAULT_SERVICE_ACCOUNT, newWorkload, type WorkloadFields } from "../defaults.ts";
import type { Workload } from "../model.ts";
import type { EndpointSpec } from "./istio-objects.ts";
import { parseLocality, type WorkloadContext } from "./workload-context.ts";

/** As the API has it: an unsigned number of 32 bits. */
const MAX_WEIGHT = 0xffff_ffff;

/** What WorkloadEntries and the endpoints of ServiceEntries have in common. `undefined`: its address is neither IP nor name. */
export function endpointWorkload(
  endpoint: EndpointSpec,
  context: WorkloadContext,
  fields: WorkloadFields,
): Workload | undefined {
  const { settings } = context;
  const ip = endpointIp(endpoint);
  const hostname = ip === undefined ? (endpoint.address ?? "") : "";
  if (ip === undefined && !HOSTNAME.test(hostname)) return undefined;
  const network = endpointNetwork(endpoint, context.network);
  const weight = endpoint.weight ?? 0;
  if (!Number.isInteger(weight) || weight > MAX_WEIGHT) throw new Error(`weight ${weight} is none`);
  return newWorkload({
    trustDomain: settings.trustDomain,
    serviceAccount: endpoint.serviceAccount || DEFAULT_SERVICE_ACCOUNT,
    addresses: ip === undefined ? [] : [ip],
    hostname,
    network,
    networkGateway: context.networkGateway(network),
    capacity: weight > 0 ? weight : 1,
    clusterId: settings.clusterId,
    locality: parseLocality(endpoint.locality),
    workloadType: "pod",
    ...fields,
  });
}

export function endpointIp(endpoint: EndpointSpec): string | undefined {
  return canonicalIp(endpoint.address ?? "");
}

export function endpointNetwork(endpoint: EndpointSpec, cluster: string): string {
  return endpoint.network || cluster;
}

/** The pod of another namespace whose address the endpoint has. It stays that pod's: an endpoint never stands in for it. */
export function foreignPodOf(endpoint: EndpointSpec, context: WorkloadContext): string | undefined {
  const ip = endpointIp(endpoint);
  if (ip === undefined || endpointNetwork(endpoint, context.network) !== context.network) return undefined;
  return context.foreignPod(ip);
}

/** RFC 1123, and wildcards of ServiceEntries that are resolved when they are used. */
const HOSTNAME = /^(\*\.)?[a-zA-Z0-9_]([-a-zA-Z0-9_.]*[a-zA-Z0-9_])?$/;
