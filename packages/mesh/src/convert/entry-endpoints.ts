import { WAYPOINT_OPTIONAL_ANNOTATION } from "@tulle/base";
import type { Workload } from "../model.ts";
import type { Condition } from "./context.ts";
import { endpointWorkload, foreignPodOf } from "./endpoint.ts";
import type { EndpointSpec } from "./istio-objects.ts";
import { endpointEntryPorts } from "./membership.ts";
import { annotationOf } from "./kubernetes.ts";
import { DNS_RESOLUTIONS, type Entry } from "./service-entry.ts";
import { bindWaypoint, boundCondition, type WaypointBinding } from "./waypoint-binding.ts";
import { canonicalOf, tunnelOf, type WorkloadContext } from "./workload-context.ts";

/** Characters of an endpoint's address in a condition: the longest name that there is. */
const MAX_ADDRESS = 253;

export interface EntryEndpoints {
  readonly workloads: readonly Workload[];
  readonly problems: readonly string[];
  /** About waypoints that endpoints ask for and cannot have. */
  readonly notBound: Condition | undefined;
}

/** `hosts`: those that are sent. An entry without any has no endpoints, either. */
export function convertEntryEndpoints(
  entry: Entry,
  hosts: readonly string[],
  context: WorkloadContext,
): EntryEndpoints {
  const unbound: [address: string, binding: WaypointBinding][] = [];
  const workloads = new Map<string, Workload>();
  const problems: string[] = [];
  const add = (endpoint: EndpointSpec, members: readonly string[], binding: WaypointBinding | undefined) => {
    const { address = "" } = endpoint;
    const workload = entryWorkload(entry, endpoint, members, context, binding?.address);
    if (workload === undefined) problems.push(`endpoint "${address}" is neither an IP address nor a hostname`);
    else if (!workloads.has(workload.uid)) {
      workloads.set(workload.uid, workload);
      if (binding?.problem !== undefined) unbound.push([address, binding]);
    }
  };
  if (hosts.length === 0) return { workloads: [], problems, notBound: undefined };
  // What is said of the entry holds for its endpoints, which have labels of their own and no annotations.
  const optional = annotationOf(entry.from, WAYPOINT_OPTIONAL_ANNOTATION);
  const annotations = optional === undefined ? {} : { [WAYPOINT_OPTIONAL_ANNOTATION]: optional };
  for (const endpoint of entry.endpoints) {
    const foreign = foreignPodOf(endpoint, context);
    if (foreign !== undefined) {
      problems.push(`endpoint ${endpoint.address} is pod ${foreign} of another namespace; it is not sent`);
      continue;
    }
    const object = { metadata: { namespace: entry.namespace, labels: endpoint.labels, annotations } };
    const { namespace, waypoints } = context;
    add(endpoint, hosts, bindWaypoint({ object, namespace, traffic: "workload", waypoints }));
  }
  // Names that are resolved are their own endpoints.
  const selects = Object.keys(entry.selector).length > 0;
  if (entry.endpoints.length === 0 && !selects && DNS_RESOLUTIONS.has(entry.resolution)) {
    for (const host of hosts) add({ address: host }, [host], undefined);
  }
  return { workloads: [...workloads.values()], problems, notBound: notBound(unbound) };
}

/** The conditions of an entry, of which its endpoints may tell that waypoints are missing. */
export function withEndpoints(told: readonly Condition[], notBound: Condition | undefined): readonly Condition[] {
  if (notBound === undefined) return told;
  const own = told.find(({ type }) => type === notBound.type);
  const others = told.filter((one) => one !== own);
  if (own?.status !== "False") return [...others, notBound];
  // One and the same waypoint, of the namespace.
  if (notBound.message.endsWith(own.message)) return told;
  return [...others, { ...own, message: `${own.message}. ${notBound.message}` }];
}

function notBound(unbound: readonly (readonly [string, WaypointBinding])[]): Condition | undefined {
  const [first] = unbound;
  if (first === undefined) return undefined;
  const [address, binding] = first;
  const condition = boundCondition(binding);
  const more = unbound.length > 1 ? ` and ${unbound.length - 1} more` : "";
  return { ...condition, message: `Endpoint ${address.slice(0, MAX_ADDRESS)}${more}: ${condition.message}` };
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
