import type { CidrVip, Service, ServiceKey } from "./model.ts";
import { serviceKey } from "./model.ts";
import { PrefixTable } from "./prefix-table.ts";
import { addressKey } from "./workload-index.ts";

/** Services by key, by VIP, by VIP range and by hostname. Several services may share a VIP or a hostname (§3.3). */
export class ServiceIndex {
  readonly #byKey = new Map<ServiceKey, Service>();
  readonly #byVip = new Map<string, readonly Service[]>();
  readonly #byHostname = new Map<string, readonly Service[]>();
  readonly #ranges = new Map<string, PrefixTable<Service>>();

  get(key: ServiceKey): Service | undefined {
    return this.#byKey.get(key);
  }

  values(): IterableIterator<Service> {
    return this.#byKey.values();
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** All services with this hostname, in the order of their arrival. */
  byHostname(hostname: string): readonly Service[] {
    return this.#byHostname.get(hostname) ?? [];
  }

  /**
   * The service that a client in `namespace` means by this address: an exact VIP wins over any range; among exact ones
   * the rules of `bestService`; among ranges own namespace, then the longest prefix, then canonical, then the first.
   */
  byVip(network: string, ip: string, namespace: string): Service | undefined {
    const exact = bestService(this.#byVip.get(addressKey(network, ip)) ?? [], namespace);
    return exact ?? this.#byRange(network, ip, namespace);
  }

  put(service: Service): Service | undefined {
    const key = serviceKey(service);
    const previous = this.#byKey.get(key);
    this.#byKey.set(key, service);
    if (previous === undefined) this.#attach(service);
    else this.#swap(previous, service);
    return previous;
  }

  remove(key: ServiceKey): Service | undefined {
    const previous = this.#byKey.get(key);
    if (previous === undefined) return undefined;
    this.#byKey.delete(key);
    this.#detach(previous);
    return previous;
  }

  #byRange(network: string, ip: string, namespace: string): Service | undefined {
    const table = this.#ranges.get(network);
    if (table === undefined) return undefined;
    let best: Service | undefined;
    let bestRank: readonly number[] = [];
    table.visit(ip, (service, bits) => {
      if (!isVisible(service, namespace)) return;
      const rank = [Number(service.namespace === namespace), bits, Number(service.canonical)];
      if (best !== undefined && !isHigher(rank, bestRank)) return;
      best = service;
      bestRank = rank;
    });
    return best;
  }

  #attach(service: Service): void {
    for (const key of vipKeys(service)) append(this.#byVip, key, service);
    append(this.#byHostname, service.hostname, service);
    for (const vip of service.cidrVips) this.#table(vip).add(vip.cidr, service);
  }

  #detach(service: Service): void {
    for (const key of vipKeys(service)) drop(this.#byVip, key, service);
    drop(this.#byHostname, service.hostname, service);
    this.#detachRanges(service);
  }

  /** An update keeps its place among services with the same VIP or hostname, so that it does not change who is first. */
  #swap(previous: Service, next: Service): void {
    const before = vipKeys(previous);
    const after = vipKeys(next);
    for (const key of before) if (!after.has(key)) drop(this.#byVip, key, previous);
    for (const key of after) {
      if (before.has(key)) exchange(this.#byVip, key, previous, next);
      else append(this.#byVip, key, next);
    }
    exchange(this.#byHostname, next.hostname, previous, next);
    this.#detachRanges(previous);
    for (const vip of next.cidrVips) this.#table(vip).add(vip.cidr, next);
  }

  #detachRanges(service: Service): void {
    for (const vip of service.cidrVips) {
      const table = this.#ranges.get(vip.network);
      table?.remove(vip.cidr, service);
      if (table?.empty) this.#ranges.delete(vip.network);
    }
  }

  #table(vip: CidrVip): PrefixTable<Service> {
    let table = this.#ranges.get(vip.network);
    if (table === undefined) {
      table = new PrefixTable();
      this.#ranges.set(vip.network, table);
    }
    return table;
  }
}

export function isVisible(service: Service, clientNamespace: string): boolean {
  return service.visibility === "Public" || service.namespace === clientNamespace;
}

/**
 * The one of several services that a client in `namespace` means (§3.3): visible ones only; its own namespace, then
 * canonical (the last of them), then the preferred namespace (DNS only; the last of them), then the first.
 */
export function bestService(
  services: readonly Service[],
  namespace: string,
  preferredNamespace?: string,
): Service | undefined {
  let first: Service | undefined;
  let canonical: Service | undefined;
  let preferred: Service | undefined;
  for (const service of services) {
    if (!isVisible(service, namespace)) continue;
    if (service.namespace === namespace) return service;
    if (service.canonical) canonical = service;
    if (preferredNamespace !== undefined && service.namespace === preferredNamespace) preferred = service;
    first ??= service;
  }
  return canonical ?? preferred ?? first;
}

function isHigher(a: readonly number[], b: readonly number[]): boolean {
  for (const [i, value] of a.entries()) {
    const other = b[i] ?? 0;
    if (value !== other) return value > other;
  }
  return false;
}

function vipKeys(service: Service): ReadonlySet<string> {
  return new Set(service.vips.map((vip) => addressKey(vip.network, vip.ip)));
}

function append(index: Map<string, readonly Service[]>, key: string, service: Service): void {
  index.set(key, [...(index.get(key) ?? []), service]);
}

function drop(index: Map<string, readonly Service[]>, key: string, service: Service): void {
  const left = (index.get(key) ?? []).filter((other) => other !== service);
  if (left.length > 0) index.set(key, left);
  else index.delete(key);
}

function exchange(index: Map<string, readonly Service[]>, key: string, previous: Service, next: Service): void {
  index.set(
    key,
    (index.get(key) ?? []).map((other) => (other === previous ? next : other)),
  );
}
