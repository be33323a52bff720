import type { PutChange } from "../resource-log.ts";
import type { Service, Workload } from "../model.ts";
import { type Condition, type MeshObjectKind, type StatusManager, statusOf } from "./context.ts";
import { convertEntryEndpoints, withEndpoints } from "./entry-endpoints.ts";
import { convertEndpointSlice, sliceService } from "./endpoint-slice.ts";
import type { KubeObjectLike, KubePod } from "./kubernetes.ts";
import { keyOf, namespaceOf } from "./kubernetes.ts";
import type { UnitResult } from "./ledger.ts";
import type { Candidates } from "./membership.ts";
import type { MeshTables } from "./mesh-tables.ts";
import { convertPod } from "./pod.ts";
import { policyTargetStatus } from "./policy-targets.ts";
import { convertService } from "./service.ts";
import { entryConditions, entryService, entryWaypoints, visibilityCondition } from "./service-entry.ts";
import type { WaypointLookup } from "./waypoint.ts";
import { convertWorkloadEntry } from "./workload-entry.ts";
import { notAccepted, type WorkloadContext } from "./workload-context.ts";

/** Kinds of which each object is converted by itself. */
export type UnitKind = Extract<
  MeshObjectKind,
  "Pod" | "Service" | "EndpointSlice" | "ServiceEntry" | "WorkloadEntry" | "AuthorizationPolicy"
>;

const MANAGERS: Readonly<Record<UnitKind, StatusManager | undefined>> = {
  Pod: "tulle-ambient-pod",
  Service: "istio-ambient-service",
  ServiceEntry: "istio-ambient-service",
  WorkloadEntry: "istio-ambient-workloadentry",
  AuthorizationPolicy: "istio-ambient-ztunnel-policy",
  EndpointSlice: undefined,
};

interface Converted {
  readonly workloads?: readonly Workload[];
  readonly services?: readonly Service[];
  readonly conditions?: readonly Condition[];
}

/** What one object is made into; undefined: there is no such object (any more). */
export function convertUnit(
  kind: UnitKind,
  key: string,
  tables: MeshTables,
  waypoints: WaypointLookup,
): UnitResult | undefined {
  const object: KubeObjectLike | undefined = tables.objects.get(kind, key);
  if (object === undefined) return undefined;
  if (kind === "AuthorizationPolicy") return policyResult(key, object, tables, waypoints);
  const converted = tables.isDiscovered(namespaceOf(object)) ? attempt(kind, key, tables, waypoints) : {};
  const resources: PutChange[] = [
    ...(converted.services ?? []).map((service) => ({ kind: "service", service }) as const),
    ...(converted.workloads ?? []).map((workload) => ({ kind: "workload", workload }) as const),
  ];
  return { resources, status: statusFor(kind, object, converted.conditions ?? []) };
}

function statusFor(kind: UnitKind, object: KubeObjectLike, conditions: readonly Condition[]): UnitResult["status"] {
  const manager = MANAGERS[kind];
  const sorted = conditions.toSorted((a, b) => (a.type < b.type ? -1 : 1));
  return manager && statusOf(kind, object, manager, sorted);
}

/** One object that nobody can make sense of does not keep the others from the mesh. */
function attempt(kind: UnitKind, key: string, tables: MeshTables, waypoints: WaypointLookup): Converted {
  try {
    return convertObject(kind, key, tables, waypoints);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { conditions: [notAccepted("Invalid", [`the object cannot be read (${message}); it is not sent`])] };
  }
}

function convertObject(kind: UnitKind, key: string, tables: MeshTables, waypoints: WaypointLookup): Converted {
  const { objects } = tables;
  const context = tables.contextOf(key.slice(0, key.indexOf("/")), waypoints);
  switch (kind) {
    case "Pod": {
      const pod = objects.get(kind, key);
      if (pod === undefined) return {};
      const node = objects.get("Node", `/${pod.spec?.nodeName ?? ""}`);
      const converted = convertPod(pod, { ...context, node, candidates: candidatesFor(pod, tables) });
      return converted === undefined ? {} : { workloads: [converted.workload], conditions: converted.conditions };
    }
    case "Service": {
      const service = objects.get(kind, key);
      const converted = service && convertService(service, context);
      return converted === undefined ? {} : { services: [converted.service], conditions: converted.conditions };
    }
    case "EndpointSlice": {
      const slice = objects.get(kind, key);
      const service = slice && sliceService(slice);
      if (slice === undefined || service === undefined) return {};
      return { workloads: convertEndpointSlice(slice, objects.get("Service", service), context) };
    }
    case "WorkloadEntry": {
      const entry = objects.get(kind, key);
      if (entry === undefined) return {};
      const candidates = selectingIn(namespaceOf(entry), tables);
      const { workload, conditions } = convertWorkloadEntry(entry, { ...context, candidates });
      return { workloads: workload === undefined ? [] : [workload], conditions };
    }
    case "ServiceEntry":
      return convertEntry(key, tables, context);
    case "AuthorizationPolicy":
      return {};
    default:
      return kind satisfies never;
  }
}

function convertEntry(key: string, tables: MeshTables, context: WorkloadContext): Converted {
  const entry = tables.entries.get(key);
  if (entry === undefined) return {};
  if (!("hosts" in entry)) {
    if (entry.reason === "None") return { conditions: [visibilityCondition("None")] };
    return { conditions: [notAccepted("Invalid", [`${entry.problem}; this entry is not sent`])] };
  }
  const { hosts, problems } = tables.entries.admission(key);
  const bound = entryWaypoints(entry, context);
  const services = hosts.map((host) => entryService(entry, host, host.canonical, context, bound));
  const endpoints = convertEntryEndpoints(
    entry,
    hosts.map(({ host }) => host),
    context,
  );
  const lost = [...problems, ...endpoints.problems];
  const told = withEndpoints(entryConditions(entry, bound, tables.settings), endpoints.notBound);
  const conditions = lost.length === 0 ? told : [...told, notAccepted("Conflict", lost)];
  return { services, workloads: endpoints.workloads, conditions };
}

function candidatesFor(pod: KubePod, tables: MeshTables): Candidates {
  const { objects, indices } = tables;
  const slices: Candidates["slices"][number][] = [];
  for (const key of indices.slicesByPod.get(keyOf(pod))) {
    const slice = objects.get("EndpointSlice", key);
    const name = slice && sliceService(slice);
    const service = name === undefined ? undefined : objects.get("Service", name);
    if (slice === undefined || service === undefined || service.spec?.type === "ExternalName") continue;
    if (Object.keys(service.spec?.selector ?? {}).length === 0) slices.push({ service, slice });
  }
  return { ...selectingIn(namespaceOf(pod), tables), slices };
}

function selectingIn(namespace: string, { objects, entries }: MeshTables): Pick<Candidates, "services" | "entries"> {
  return { services: [...objects.inNamespace("Service", namespace)], entries: entries.membersIn(namespace) };
}

function policyResult(key: string, object: KubeObjectLike, tables: MeshTables, waypoints: WaypointLookup): UnitResult {
  const { policy, status } = tables.policies.authorization(key) ?? {};
  const resources: PutChange[] = policy === undefined ? [] : [{ kind: "policy", policy }];
  return { resources, status: status ?? policyTargetStatus(object, tables, waypoints) };
}
