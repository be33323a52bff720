import type { Workload } from "../model.ts";
import { endpointWorkload, foreignPodOf } from "./endpoint.ts";
import type { EndpointSpec } from "./istio-objects.ts";
import { endpointEntryPorts } from "./membership.ts";
import { DNS_RESOLUTIONS, type Entry } from "./service-entry.ts";
import { bindWaypoint } from "./waypoint-binding.ts";
import { canonicalOf, tunnelOf, type WorkloadContext } from "./workload-context.ts";

/** `hosts`: those that are sent. An entry without any has no endpoints, either. */
export function convertEntryEndpoints(
  entry: Entry,
  hosts: readonly string[],
  context: WorkloadContext,
): { readonly workloads: readonly Workload[]; readonly problems: readonly string[] } {
  const workloads = new Map<string, Workload>();
  const problems: string[] = [];
  const add = (endpoint: EndpointSpec, members: readonly string[], waypoint: Workload["waypoint"]) => {
    const workload = entryWorkload(entry, endpoint, members, context, waypoint);
    if (workload === undefined)
      problems.push(`endpoint "${endpoint.address ?? ""}" is neither an IP address nor a hostname`);
    else if (!workloads.has(workload.uid)) workloads.set(workload.uid, workload);
  };
  if (hosts.length === 0) return { workloads: [], problems };
  for (const endpoint of entry.endpoints) {
    const foreign = foreignPodOf(endpoint, context);
    if (foreign !== undefined) {
      problems.push(`endpoint ${endpoint.address} is pod ${foreign} of another namespace; it is not sent`);
      continue;
    }
    const object = { metadata: { namespace: entry.namespace, labels: endpoint.labels } };
    const { namespace, waypoints } = context;
    const binding = bindWaypoint({ object, namespace, traffic: "workload", waypoints });
    add(endpoint, hosts, binding?.address);
  }
  // Names that are resolved are their own endpoints.
  const selects = Object.keys(entry.selector).length > 0;
  if (entry.endpoints.length === 0 && !selects && DNS_RESOLUTIONS.has(entry.resolution)) {
    for (const host of hosts) add({ address: host }, [host], undefined);
  }
  return { workloads: [...workloads.values()], problems };
}

function entryWorkload(
  entry: Entry,
  endpoint: EndpointSpec,
  hosts: readonly string[],
  context: WorkloadContext,
  waypoint: Workload["waypoint"],
): Workload | undefined {
  const { from, namespace, name } = entry;
  const labels = from.metadata?.labels;
  const ports = endpointEntryPorts(entry.ports, endpoint);
  const address = endpoint.address ?? "";
  return endpointWorkload(endpoint, context, {
    uid: `${context.settings.clusterId}/networking.istio.io/ServiceEntry/${namespace}/${name}/${address}`,
    name,
    namespace,
    ...tunnelOf(from),
    waypoint,
    services: new Map(hosts.toSorted().map((host) => [`${namespace}/${host}`, ports])),
    authorizationPolicies: context.policies(labels),
    workloadName: name,
    ...canonicalOf(labels, name),
  });
}
