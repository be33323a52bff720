import type { ServiceKey } from "../model.ts";
import type { EndpointSpec, EntryPort, KubeEndpointSlice } from "./istio-objects.ts";
import {
  byKey,
  type KubePod,
  type KubeService,
  type KubeServicePort,
  keyOf,
  type Labels,
  namespaceOf,
  selects,
} from "./kubernetes.ts";
import { isPort, serviceHostname, tcpFirst } from "./service.ts";

/** Service port → the port that the workload listens on. */
export type PortMap = ReadonlyMap<number, number>;

/** A ServiceEntry, as far as what it selects is concerned. */
export interface EntryMembers {
  readonly namespace: string;
  readonly selector: Labels;
  readonly ports: readonly EntryPort[];
  /** Hosts that are sent. */
  readonly hosts: readonly string[];
}

/** What may have the workload as an endpoint. What does not select it is left out here. */
export interface Candidates {
  /** Of the workload's namespace. */
  readonly services: readonly KubeService[];
  readonly entries: readonly EntryMembers[];
  /** Services without selector, with the slices that name the workload. */
  readonly slices: readonly { readonly service: KubeService; readonly slice: KubeEndpointSlice }[];
}

/** In the order of the keys, so that equal workloads are equal bytes. */
export function podMembership(
  pod: KubePod,
  candidates: Candidates,
  clusterDomain: string,
): ReadonlyMap<ServiceKey, PortMap> {
  const members: [ServiceKey, PortMap][] = [];
  const labels = pod.metadata?.labels;
  for (const service of candidates.services) {
    if (!serviceSelects(service, namespaceOf(pod), labels)) continue;
    members.push([keyOfService(service, clusterDomain), servicePorts(service, (port) => podTarget(port, pod))]);
  }
  for (const entry of candidates.entries) {
    if (!entrySelects(entry, namespaceOf(pod), labels)) continue;
    const ports = entryPorts(entry.ports, (port) => containerPort(pod, port.name));
    for (const host of entry.hosts) members.push([`${entry.namespace}/${host}`, ports]);
  }
  for (const { service, slice } of candidates.slices) {
    if (!slice.endpoints?.some(({ targetRef }) => targets(slice, targetRef, pod))) continue;
    members.push([keyOfService(service, clusterDomain), slicePorts(service, slice)]);
  }
  return merged(members);
}

/** A WorkloadEntry's, by its labels. */
export function entryMembership(
  endpoint: EndpointSpec,
  namespace: string,
  labels: Labels,
  candidates: Pick<Candidates, "services" | "entries">,
  clusterDomain: string,
): ReadonlyMap<ServiceKey, PortMap> {
  const members: [ServiceKey, PortMap][] = [];
  for (const service of candidates.services) {
    if (!serviceSelects(service, namespace, labels)) continue;
    members.push([
      keyOfService(service, clusterDomain),
      servicePorts(service, (port) => endpointTarget(port, endpoint)),
    ]);
  }
  for (const entry of candidates.entries) {
    if (!entrySelects(entry, namespace, labels)) continue;
    const ports = endpointEntryPorts(entry.ports, endpoint);
    for (const host of entry.hosts) members.push([`${entry.namespace}/${host}`, ports]);
  }
  return merged(members);
}

/** A service without selector selects nothing, and neither does one that is only another name. */
export function serviceSelects(service: KubeService, namespace: string, labels: Labels | undefined): boolean {
  const { selector = {}, type } = service.spec ?? {};
  if (type === "ExternalName" || namespaceOf(service) !== namespace) return false;
  return Object.keys(selector).length > 0 && selects(selector, labels);
}

export function endpointEntryPorts(ports: readonly EntryPort[], endpoint: EndpointSpec): PortMap {
  return entryPorts(ports, ({ name }) => (name === undefined ? undefined : endpoint.ports?.[name]));
}

/** TCP ports that the slice and the service call by the same name. */
export function slicePorts(service: KubeService, slice: KubeEndpointSlice): PortMap {
  return servicePorts(service, ({ name = "", protocol = "TCP" }) => {
    if (protocol !== "TCP") return undefined;
    const found = slice.ports?.find((port) => port.name === name && (port.protocol ?? "TCP") === "TCP");
    return found?.port;
  });
}

/** The endpoint is exactly this pod. Slices do not reach into other namespaces. */
export function targets(
  slice: KubeEndpointSlice,
  ref: NonNullable<KubeEndpointSlice["endpoints"]>[number]["targetRef"],
  pod: KubePod,
): boolean {
  if (ref?.kind !== "Pod" || namespaceOf(slice) !== namespaceOf(pod)) return false;
  return `${ref.namespace}/${ref.name}` === keyOf(pod) && ref.uid === pod.metadata?.uid;
}

function entrySelects(entry: EntryMembers, namespace: string, labels: Labels | undefined): boolean {
  return entry.namespace === namespace && Object.keys(entry.selector).length > 0 && selects(entry.selector, labels);
}

function servicePorts(service: KubeService, target: (port: KubeServicePort) => number | undefined): PortMap {
  const ports = new Map<number, number>();
  for (const port of tcpFirst(service.spec?.ports ?? [])) {
    const number = target(port);
    // The Service itself is told when one of its ports is none; its pods go on without that one.
    if (isPort(number) && isPort(port.port) && !ports.has(port.port)) ports.set(port.port, number);
  }
  return ports;
}

function entryPorts(ports: readonly EntryPort[], named: (port: EntryPort) => number | undefined): PortMap {
  const sorted = ports.toSorted((a, b) => a.number - b.number);
  const pairs = sorted.map((port) => [port.number, named(port) ?? (port.targetPort || port.number)] as const);
  return new Map(pairs.filter(([number, target]) => isPort(number) && isPort(target)));
}

/** A named target port is the pod's own TCP port of that name; without one the service's port leads nowhere. */
function podTarget(port: KubeServicePort, pod: KubePod): number | undefined {
  const { targetPort } = port;
  return typeof targetPort === "string" ? containerPort(pod, targetPort) : targetPort || port.port;
}

function endpointTarget(port: KubeServicePort, endpoint: EndpointSpec): number | undefined {
  const { targetPort, name } = port;
  if (typeof targetPort === "string") return endpoint.ports?.[targetPort];
  return (name === undefined ? undefined : endpoint.ports?.[name]) ?? (targetPort || port.port);
}

/** A TCP port of a container, or of an init container that goes on running. */
function containerPort(pod: KubePod, portName: string | undefined): number | undefined {
  if (portName === undefined) return undefined;
  const sidecars = pod.spec?.initContainers?.filter(({ restartPolicy }) => restartPolicy === "Always") ?? [];
  for (const container of [...(pod.spec?.containers ?? []), ...sidecars]) {
    for (const { name, containerPort: number, protocol } of container.ports ?? []) {
      if (name === portName && (protocol ?? "TCP") === "TCP") return number;
    }
  }
  return undefined;
}

function keyOfService(service: KubeService, clusterDomain: string): ServiceKey {
  return `${namespaceOf(service)}/${serviceHostname(service, clusterDomain)}`;
}

/** A service may be there more than once, with a slice for each family: its ports add up. */
function merged(members: readonly [ServiceKey, PortMap][]): ReadonlyMap<ServiceKey, PortMap> {
  const services = new Map<ServiceKey, PortMap>();
  for (const [key, ports] of members.toSorted(byKey(([name]) => name))) {
    const known = services.get(key);
    services.set(key, known === undefined ? ports : new Map([...ports, ...known].sort((a, b) => a[0] - b[0])));
  }
  return services;
}
