import { AddressOwners } from "./address-owners.ts";
import type { MeshChange, Policy, PolicyKey, Service, ServiceKey, Workload } from "./model.ts";
import { PolicyIndex, type PolicyScope, type PolicySet, policyScopes } from "./policy-index.ts";
import { EndpointPool } from "./endpoints.ts";
import { bestService, ServiceIndex } from "./service-index.ts";
import { type LocalWorkloadKey, type OwnerChange, WorkloadIndex } from "./workload-index.ts";

/** What the data path must act upon. Called synchronously from `apply`, after the change is visible. */
export interface MeshObserver {
  /**
   * An address went from one workload (uid) to another; `to` is undefined when the former owner is gone for so long
   * that it was forgotten. Connections pooled to this address are no longer to be used.
   */
  onAddressMoved?(network: string, ip: string, from: string, to: string | undefined): void;
  /** Connections to workloads that `scopeTouches` must be authorized again. */
  onPoliciesChanged?(scope: PolicyScope): void;
  /** A workload came (`previous` undefined), changed, or went (`current` undefined). */
  onWorkloadChanged?(previous: Workload | undefined, current: Workload | undefined): void;
  /** After every change: whoever waits for something to appear looks again. */
  onChanged?(): void;
}

/** One mesh workload or service that an address stands for. */
export type AddressOwner =
  | { readonly kind: "workload"; readonly workload: Workload }
  | { readonly kind: "service"; readonly service: Service };

/**
 * The mesh as one thread knows it. Every thread applies the same log of changes and so holds the same state; what it
 * holds depends on the set of resources only, not on the order in which they came (except who is first of several
 * equally good services).
 */
export class MeshState {
  readonly #workloads: WorkloadIndex;
  readonly #services = new ServiceIndex();
  readonly #policies = new PolicyIndex();
  readonly #pools = new Map<ServiceKey, EndpointPool>();
  readonly #observers = new Set<MeshObserver>();
  #synced = false;
  #generation = 0;

  constructor() {
    const owners = new AddressOwners((network, ip, from, to) => {
      for (const observer of this.#observers) observer.onAddressMoved?.(network, ip, from, to);
    });
    const onOwner: OwnerChange = (network, ip, from, to) => owners.change(network, ip, from?.uid, to?.uid);
    this.#workloads = new WorkloadIndex(onOwner);
  }

  /** Every wildcard type was received once: absent means absent. Until then nothing may pass as unknown. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Grows with every change. */
  get generation(): number {
    return this.#generation;
  }

  get size(): { readonly workloads: number; readonly services: number; readonly policies: number } {
    return { workloads: this.#workloads.size, services: this.#services.size, policies: this.#policies.size };
  }

  /** Returns the way to stop observing. */
  observe(observer: MeshObserver): () => void {
    this.#observers.add(observer);
    return () => {
      this.#observers.delete(observer);
    };
  }

  /** Costs what changed, not what there is. Removing what is not there does nothing. */
  apply(change: MeshChange): void {
    this.#generation++;
    switch (change.kind) {
      case "workload":
        this.#changed(this.#workloads.put(change.workload), change.workload);
        break;
      case "remove-workload": {
        const previous = this.#workloads.remove(change.uid);
        if (previous !== undefined) this.#changed(previous, undefined);
        break;
      }
      case "service":
        this.#services.put(change.service);
        break;
      case "remove-service":
        this.#services.remove(change.key);
        this.#pools.delete(change.key);
        break;
      case "policy": {
        const previous = this.#policies.put(change.policy);
        this.#policiesChanged(previous, change.policy);
        break;
      }
      case "remove-policy": {
        const previous = this.#policies.remove(change.key);
        this.#policiesChanged(previous, undefined);
        break;
      }
      case "synced":
        this.#synced = true;
        break;
      default:
        change satisfies never;
    }
    for (const observer of this.#observers) observer.onChanged?.();
  }

  workload(uid: string): Workload | undefined {
    return this.#workloads.get(uid);
  }

  /** Pods and other workloads with an address of their own; never host-network ones (§3.4). */
  workloadByIp(network: string, ip: string): Workload | undefined {
    return this.#workloads.byAddress(network, ip);
  }

  /** A node's address. */
  isHostAddress(network: string, ip: string): boolean {
    return this.#workloads.isHostAddress(network, ip);
  }

  /** The pod that a listener stands for. `node` empty: on any node (§3). */
  localWorkload(key: LocalWorkloadKey, node: string): Workload | undefined {
    return this.#workloads.local(key, node);
  }

  workloadByHostname(namespace: string, hostname: string): Workload | undefined {
    return this.#workloads.byHostname(namespace, hostname);
  }

  anyWorkloadByHostname(hostname: string): Workload | undefined {
    return this.#workloads.anyByHostname(hostname);
  }

  service(key: ServiceKey): Service | undefined {
    return this.#services.get(key);
  }

  /** The service that a client in `namespace` means by a VIP, ranges included (§3.3). */
  serviceByVip(network: string, ip: string, namespace: string): Service | undefined {
    return this.#services.byVip(network, ip, namespace);
  }

  servicesByHostname(hostname: string): readonly Service[] {
    return this.#services.byHostname(hostname);
  }

  /** The service that somebody in `namespace` means by a hostname (§3.3). */
  serviceByHostname(hostname: string, namespace: string): Service | undefined {
    return bestService(this.#services.byHostname(hostname), namespace);
  }

  /** Workload first, then service: the meaning of an address in §3 step 2. */
  addressOwner(network: string, ip: string, namespace: string): AddressOwner | undefined {
    const workload = this.workloadByIp(network, ip);
    if (workload !== undefined) return { kind: "workload", workload };
    const service = this.serviceByVip(network, ip, namespace);
    return service && { kind: "service", service };
  }

  /** Does this workload say that it belongs to the service (healthy or not)? */
  isMember(key: ServiceKey, uid: string): boolean {
    return this.#workloads.isMember(key, uid);
  }

  /** Endpoints that may get traffic: unhealthy ones only if the service wants them (§3.2). */
  endpoints(service: Service, key: ServiceKey): EndpointPool {
    let pool = this.#pools.get(key);
    if (pool !== undefined && pool.service === service) return pool;
    pool = new EndpointPool(service, key, this.#workloads.members(key).values());
    this.#pools.set(key, pool);
    return pool;
  }

  policy(key: PolicyKey): Policy | undefined {
    return this.#policies.get(key)?.policy;
  }

  /** The compiled policies: for `authorize`. */
  get policies(): { readonly global: PolicySet; ofNamespace(ns: string): PolicySet | undefined } & Pick<
    PolicyIndex,
    "get"
  > {
    return this.#policies;
  }

  allWorkloads(): IterableIterator<Workload> {
    return this.#workloads.values();
  }

  allServices(): IterableIterator<Service> {
    return this.#services.values();
  }

  allPolicies(): IterableIterator<Policy> {
    return this.#policies.values();
  }

  /** Every workload that says it belongs to this service. */
  members(key: ServiceKey): ReadonlyMap<string, Workload> {
    return this.#workloads.members(key);
  }

  /** Services that workloads belong to but that are not known (yet). */
  *stagedServices(): IterableIterator<ServiceKey> {
    for (const key of this.#workloads.memberKeys()) if (this.#services.get(key) === undefined) yield key;
  }

  #changed(previous: Workload | undefined, current: Workload | undefined): void {
    for (const workload of [previous, current]) {
      for (const key of workload?.services.keys() ?? []) this.#pools.delete(key);
    }
    for (const observer of this.#observers) observer.onWorkloadChanged?.(previous, current);
    if (current === undefined || (previous !== undefined && samePolicies(previous, current))) return;
    for (const observer of this.#observers) {
      observer.onPoliciesChanged?.({ kind: "workload", uid: current.uid });
    }
  }

  #policiesChanged(previous: Policy | undefined, current: Policy | undefined): void {
    const told = new Set<string>();
    for (const policy of [previous, current]) {
      for (const scope of policy === undefined ? [] : policyScopes(policy)) {
        const key = JSON.stringify(scope);
        if (told.has(key)) continue;
        told.add(key);
        for (const observer of this.#observers) observer.onPoliciesChanged?.(scope);
      }
    }
  }
}

function samePolicies(a: Workload, b: Workload): boolean {
  return (
    a.namespace === b.namespace &&
    a.authorizationPolicies.length === b.authorizationPolicies.length &&
    a.authorizationPolicies.every((key, i) => key === b.authorizationPolicies[i])
  );
}
