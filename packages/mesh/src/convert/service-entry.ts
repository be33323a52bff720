import type { Service } from "../model.ts";
import { newService } from "../defaults.ts";
import { parseAddresses, type ServiceAddresses } from "./addresses.ts";
import type { Condition, MeshSettings } from "./context.ts";
import type { EndpointSpec, EntryPort, KubeServiceEntry } from "./istio-objects.ts";
import { annotationOf, type KubeNamespace, type Labels, nameOf, namespaceOf } from "./kubernetes.ts";
import { entryLoadBalancer } from "./load-balancing.ts";
import { appProtocol, checkPorts, firstOfEach, type ServiceContext, withProtocols } from "./service.ts";
import { type ServiceWaypoints, serviceWaypoints } from "./service-waypoints.ts";
import { entryVisibility } from "./visibility.ts";

/** A ServiceEntry, read, before it is known what of it it may have. */
export interface Entry {
  readonly from: KubeServiceEntry;
  readonly namespace: string;
  readonly name: string;
  /** Milliseconds since the epoch. */
  readonly created: number;
  readonly visibility: "Public" | "Namespace";
  readonly resolution: string;
  readonly hosts: readonly EntryHost[];
  readonly ports: readonly EntryPort[];
  readonly endpoints: readonly EndpointSpec[];
  readonly selector: Labels;
}

export interface EntryHost extends ServiceAddresses {
  readonly host: string;
}

/** What may not be sent at all, and why. */
export interface UnreadableEntry {
  readonly reason: "Invalid" | "None";
  readonly problem: string;
}

export const DNS_RESOLUTIONS: ReadonlySet<string> = new Set(["DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]);
const DYNAMIC_DNS = "DYNAMIC_DNS";
const CONNECT_STRATEGY = "istio.io/connect-strategy";
const RACING = "RACE_FIRST_TCP_CONNECT";
const WAYPOINT_MISSING = "istio.io/WaypointMissing";
const VISIBILITY_APPLIED = "istio.io/VisibilityApplied";

export function readServiceEntry(
  from: KubeServiceEntry,
  namespace: KubeNamespace | undefined,
  settings: MeshSettings,
  network: string,
): Entry | UnreadableEntry {
  const visibility = entryVisibility(namespaceOf(from), namespace, settings);
  if (visibility === "NONE") {
    return {
      reason: "None",
      problem: "ServiceEntries of this namespace are visible to nobody, so this one is not sent",
    };
  }
  const { spec = {}, status } = from;
  const resolution = spec.resolution ?? "NONE";
  const own = parseAddresses(spec.addresses ?? [], network);
  if (own === undefined)
    return { reason: "Invalid", problem: `spec.addresses cannot be read: ${spec.addresses?.join(", ")}` };
  const hosts = new Map<string, EntryHost>();
  for (const text of spec.hosts ?? []) {
    const host = text.toLowerCase();
    const allocated = allocatedAddresses(status?.addresses ?? [], host, resolution);
    const addresses = own.vips.length + own.cidrVips.length > 0 ? own : parseAddresses(allocated, network);
    if (addresses === undefined) return { reason: "Invalid", problem: `status.addresses of "${text}" cannot be read` };
    hosts.set(host, { host, ...addresses });
  }
  return {
    from,
    namespace: namespaceOf(from),
    name: nameOf(from),
    created: createdOf(from),
    visibility: visibility === "PUBLIC" ? "Public" : "Namespace",
    resolution,
    hosts: [...hosts.values()],
    ports: [...firstOfEach((spec.ports ?? []).map((port) => [port.number, port])).values()],
    endpoints: spec.endpoints ?? [],
    selector: spec.workloadSelector?.labels ?? {},
  };
}

/** `canonical`: clients of other namespaces mean this one. */
export function entryService(
  entry: Entry,
  { host, vips, cidrVips }: EntryHost,
  canonical: boolean,
  context: ServiceContext,
  bound: ServiceWaypoints,
): Service {
  const { from, ports } = entry;
  const sorted = ports.toSorted((a, b) => a.number - b.number);
  checkPorts(sorted.flatMap(({ number, targetPort }) => [number, targetPort || number]));
  return withProtocols(
    newService({
      name: entry.name,
      namespace: entry.namespace,
      hostname: host,
      vips,
      cidrVips,
      ports: new Map(sorted.map(({ number, targetPort }) => [number, targetPort || number])),
      subjectAltNames: from.spec?.subjectAltNames ?? [],
      waypoint: bound.waypoint,
      weightedWaypoints: bound.weightedWaypoints,
      loadBalancer: entryLoadBalancer(from, context.namespace, entry.resolution),
      canonical,
      visibility: entry.visibility,
      ...(bound.ingressUseWaypoint && { ingressUseWaypoint: true }),
    }),
    sorted.map(({ number, protocol }) => [number, appProtocol(protocol ?? "")]),
  );
}

export function entryWaypoints(entry: Entry, context: ServiceContext): ServiceWaypoints {
  const { namespace, waypoints } = context;
  return serviceWaypoints({ object: entry.from, namespace, waypoints, private: entry.visibility === "Namespace" });
}

/** Conditions about waypoint and visibility (control-plane.md §2.9). */
export function entryConditions(entry: Entry, bound: ServiceWaypoints, settings: MeshSettings): readonly Condition[] {
  const conditions: Condition[] = [];
  const missing = bound.bound ? undefined : missingWaypoint(entry);
  if (bound.condition !== undefined) conditions.push(bound.condition);
  if (missing !== undefined) conditions.push({ type: WAYPOINT_MISSING, status: "True", ...missing });
  if (settings.serviceEntryVisibility !== undefined) conditions.push(visibilityCondition(entry.visibility));
  return conditions;
}

export function visibilityCondition(visibility: Entry["visibility"] | "None"): Condition {
  const seen = {
    Public: "visible to every namespace",
    Namespace: "visible to its own namespace only",
    None: "not visible",
  };
  return { type: VISIBILITY_APPLIED, status: "True", reason: visibility, message: seen[visibility] };
}

/** What the entry asks for that only a waypoint can do. */
function missingWaypoint(entry: Entry): { readonly reason: string; readonly message: string } | undefined {
  if (annotationOf(entry.from, CONNECT_STRATEGY)?.toUpperCase() === RACING) {
    const message = `connect strategy ${RACING} takes effect in a waypoint only, and none is bound`;
    return { reason: "NoWaypointForRacingConnectStrategy", message };
  }
  const wildcard = entry.hosts.find(({ host }) => isWildcard(host));
  if (wildcard === undefined) return undefined;
  const message = `host "${wildcard.host}" is a wildcard, which a waypoint has to resolve, and none is bound`;
  return { reason: "NoWaypointForWildcardService", message };
}

/** Without addresses of its own: those that were allocated to the host. */
function allocatedAddresses(
  addresses: NonNullable<NonNullable<KubeServiceEntry["status"]>["addresses"]>,
  host: string,
  resolution: string,
): readonly string[] {
  if (resolution === "NONE" || (isWildcard(host) && resolution !== DYNAMIC_DNS)) return [];
  return addresses.filter((one) => one.host?.toLowerCase() === host).flatMap(({ value }) => value ?? []);
}

/** Milliseconds since the epoch; 0: unknown. */
export function createdOf({ metadata }: Pick<KubeServiceEntry, "metadata">): number {
  return new Date(metadata?.creationTimestamp ?? 0).getTime() || 0;
}

export function isWildcard(host: string): boolean {
  return host.startsWith("*");
}
