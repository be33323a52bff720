import { isDiscovered } from "./label-selector.ts";
import type { Labels } from "./kubernetes.ts";
import { nameOf } from "./kubernetes.ts";
import type { ChangeOf } from "./mesh-objects.ts";
import { ownIps, podIps, slicePods } from "./mesh-indices.ts";
import { readable } from "./readable.ts";
import type { MeshTables } from "./mesh-tables.ts";
import type { AffectedWorkloads } from "./policy-registry.ts";
import { same } from "./same.ts";
import { readServiceEntry } from "./service-entry.ts";
import type { UnitKind } from "./unit.ts";

/** Kinds that hold workloads, and so name policies and are reached through gateways. */
export const WORKLOAD_KINDS: readonly UnitKind[] = ["Pod", "WorkloadEntry", "ServiceEntry", "EndpointSlice"];
export const NAMESPACED_UNITS: readonly UnitKind[] = ["Service", ...WORKLOAD_KINDS];

/** Finds what an object's change makes due, and never more than depends on it. */
export class Due {
  /** `<kind> <namespace>/<name>` */
  readonly units = new Set<string>();
  /** Keys of ServiceEntries whose claims are to be judged again. They are due, too. */
  readonly entries = new Set<string>();
  readonly #tables: MeshTables;

  constructor(tables: MeshTables) {
    this.#tables = tables;
  }

  add(kind: UnitKind, key: string): void {
    this.units.add(`${kind} ${key}`);
  }

  /** All objects of these kinds, or those of one namespace. */
  addAll(kinds: readonly UnitKind[], namespace?: string): void {
    for (const kind of kinds) for (const key of this.#tables.objects.keys(kind, namespace)) this.add(kind, key);
  }

  /** Policies that are attached to what this names (`policyTargetKeys`). */
  addAttached(target: string): void {
    for (const key of this.#tables.indices.policiesByTarget.get(target)) this.add("AuthorizationPolicy", key);
  }

  addSelected(selector: Labels, namespace?: string): void {
    for (const unit of this.#tables.indices.labels.find(selector, namespace)) this.units.add(unit);
  }

  addAffected({ namespace, selector }: AffectedWorkloads): void {
    if (selector === undefined) {
      this.addAll(WORKLOAD_KINDS, namespace);
      return;
    }
    this.addSelected(selector, namespace);
    // Endpoints of ServiceEntries are selected by the entry's labels, which no index holds: entries are few.
    this.addAll(["ServiceEntry"], namespace);
  }

  addEntries(keys: Iterable<string>): void {
    for (const key of keys) {
      this.entries.add(key);
      this.add("ServiceEntry", key);
    }
  }

  /** An address came to a pod or left it. */
  addIps(ips: readonly string[]): void {
    const { indices, entries, network } = this.#tables;
    for (const ip of ips) {
      for (const unit of indices.endpointsByIp.get(ip)) this.units.add(unit);
      this.addEntries(entries.wanting(network, ip));
    }
  }

  namespace({ before, after }: ChangeOf<"Namespace">): void {
    const name = nameOf(after ?? before ?? {});
    const { objects, settings } = this.#tables;
    this.addAll(NAMESPACED_UNITS, name);
    this.addAttached(`Namespace ${name}`);
    for (const key of objects.keys("Service", name)) this.service(key);
    for (const key of objects.keys("ServiceEntry", name)) this.serviceEntry(key);
    if (isDiscovered(name, before, settings) === isDiscovered(name, after, settings)) return;
    for (const pod of objects.inNamespace("Pod", name)) this.addIps(ownIps(pod));
  }

  pod({ key, before, after }: ChangeOf<"Pod">): void {
    this.add("Pod", key);
    const [old, current] = [podIps(before), podIps(after)];
    if (same(old, current) && before?.spec?.hostNetwork === after?.spec?.hostNetwork) return;
    this.addIps([...old, ...current]);
    this.addEntries(this.#tables.entries.movePod(key.slice(0, key.indexOf("/")), old, current));
  }

  workloadEntry(key: string): void {
    const { objects, entries, network } = this.#tables;
    this.add("WorkloadEntry", key);
    const entry = objects.get("WorkloadEntry", key);
    this.addEntries(readable(() => entries.setWorkloadEntry(key, entry, network), []));
  }

  serviceChange({ key, before, after }: ChangeOf<"Service">): void {
    this.add("Service", key);
    this.addAttached(`Service ${key}`);
    if (same(before?.spec, after?.spec) && (before === undefined) === (after === undefined)) return;
    this.service(key);
    const namespace = key.slice(0, key.indexOf("/"));
    for (const selector of [before?.spec?.selector, after?.spec?.selector]) {
      if (selector !== undefined) this.addSelected(selector, namespace);
    }
    for (const slice of this.#tables.indices.slicesByService.get(key)) {
      this.add("EndpointSlice", slice);
      for (const pod of slicePods(this.#tables.objects.get("EndpointSlice", slice))) this.add("Pod", pod);
    }
  }

  endpointSlice({ key, before, after }: ChangeOf<"EndpointSlice">): void {
    this.add("EndpointSlice", key);
    for (const pod of [...slicePods(before), ...slicePods(after)]) this.add("Pod", pod);
  }

  /** What a Service asks for changed, or may be asked for now. */
  service(key: string): void {
    const { objects, entries, settings, network } = this.#tables;
    const service = objects.get("Service", key);
    const { clusterDomain } = settings;
    this.addEntries(readable(() => entries.setService(key, service, { clusterDomain, network }), []));
  }

  serviceEntry(key: string): void {
    const { objects, entries, settings, network } = this.#tables;
    this.add("ServiceEntry", key);
    this.addAttached(`ServiceEntry ${key}`);
    const found = objects.get("ServiceEntry", key);
    const home = key.slice(0, key.indexOf("/"));
    if (found === undefined || !this.#tables.isDiscovered(home)) {
      this.addEntries(entries.setEntry(key, undefined));
      return;
    }
    const namespace = objects.get("Namespace", `/${home}`);
    const unreadable = { reason: "Invalid", problem: "the object cannot be read" } as const;
    const entry = readable(() => readServiceEntry(found, namespace, settings, network), unreadable);
    this.addEntries(readable(() => entries.setEntry(key, entry), []));
  }
}
