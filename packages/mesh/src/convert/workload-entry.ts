import type { Workload } from "../model.ts";
import type { Condition } from "./context.ts";
import { endpointWorkload, foreignPodOf } from "./endpoint.ts";
import type { KubeWorkloadEntry } from "./istio-objects.ts";
import { annotationOf, type Labels, nameOf, namespaceOf } from "./kubernetes.ts";
import { type Candidates, entryMembership } from "./membership.ts";
import { bindWaypoint, boundCondition } from "./waypoint-binding.ts";
import { canonicalOf, notAccepted, tunnelOf, type WorkloadContext } from "./workload-context.ts";

export interface WorkloadEntryContext extends WorkloadContext {
  readonly candidates: Pick<Candidates, "services" | "entries">;
}

export interface ConvertedWorkloadEntry {
  /** undefined: not sent; a condition says why. */
  readonly workload: Workload | undefined;
  readonly conditions: readonly Condition[];
}

const AUTO_REGISTRATION_GROUP = "istio.io/autoRegistrationGroup";

export function convertWorkloadEntry(from: KubeWorkloadEntry, context: WorkloadEntryContext): ConvertedWorkloadEntry {
  const { settings, namespace, waypoints } = context;
  const spec = from.spec ?? {};
  const labels = workloadEntryLabels(from);
  const labelled = { metadata: { ...from.metadata, labels } };
  const foreign = foreignPodOf(spec, context);
  if (foreign !== undefined) {
    const problem = `address ${spec.address} is that of pod ${foreign} in another namespace; this entry is not sent`;
    return { workload: undefined, conditions: [notAccepted("AddressTaken", [problem])] };
  }
  const binding = bindWaypoint({ object: labelled, namespace, traffic: "workload", waypoints });
  const workloadName =
    annotationOf(from, AUTO_REGISTRATION_GROUP) ?? labels["service.istio.io/workload-name"] ?? nameOf(from);
  const workload = endpointWorkload(spec, context, {
    uid: `${settings.clusterId}/networking.istio.io/WorkloadEntry/${namespaceOf(from)}/${nameOf(from)}`,
    name: nameOf(from),
    namespace: namespaceOf(from),
    ...tunnelOf(labelled),
    waypoint: binding?.address,
    services: entryMembership(spec, namespaceOf(from), labels, context.candidates, settings.clusterDomain),
    authorizationPolicies: context.policies(labels),
    workloadName,
    ...canonicalOf(labels, workloadName),
  });
  if (workload === undefined) {
    const problem = `address "${spec.address ?? ""}" is neither an IP address nor a hostname; this entry is not sent`;
    return { workload, conditions: [notAccepted("Invalid", [problem])] };
  }
  return { workload, conditions: binding === undefined ? [] : [boundCondition(binding)] };
}

/** Labels are in two places; those of the spec win. */
export function workloadEntryLabels(from: KubeWorkloadEntry): Labels {
  return { ...from.metadata?.labels, ...from.spec?.labels };
}
