import type { ServiceKey, Workload } from "./model.ts";

/** How a pod is known to the node agent: not by its mesh uid (spec: l4-ztunnel §3, notes). */
export interface LocalWorkloadKey {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
}

/** Called for each address whose (best) workload changed. */
export type OwnerChange = (network: string, ip: string, from: Workload | undefined, to: Workload | undefined) => void;

/** Workloads under every key that a decision looks them up by. All changes are O(addresses + services of the workload). */
export class WorkloadIndex {
  readonly #byUid = new Map<string, Workload>();
  /** `network/ip` → the workloads that have it, the preferred one first. Host-network workloads are not here. */
  readonly #byAddress = new Map<string, readonly Workload[]>();
  /** `network/ip` → how many host-network workloads have it. */
  readonly #hostAddresses = new Map<string, number>();
  readonly #byIdentity = new Map<string, Map<string, Workload>>();
  readonly #byHostname = new Map<string, Map<string, Workload>>();
  readonly #members = new Map<ServiceKey, Map<string, Workload>>();
  readonly #onOwner: OwnerChange;

  constructor(onOwner: OwnerChange) {
    this.#onOwner = onOwner;
  }

  get(uid: string): Workload | undefined {
    return this.#byUid.get(uid);
  }

  values(): IterableIterator<Workload> {
    return this.#byUid.values();
  }

  get size(): number {
    return this.#byUid.size;
  }

  byAddress(network: string, ip: string): Workload | undefined {
    return this.#byAddress.get(addressKey(network, ip))?.[0];
  }

  /** A node's address: known, but it stands for no single workload. */
  isHostAddress(network: string, ip: string): boolean {
    return this.#hostAddresses.has(addressKey(network, ip));
  }

  byHostname(namespace: string, hostname: string): Workload | undefined {
    return firstOf(this.#byHostname.get(`${namespace}/${hostname}`));
  }

  /** Any workload with this hostname, whatever its namespace; the smallest uid when there are several. */
  anyByHostname(hostname: string): Workload | undefined {
    return firstOf(this.#byHostname.get(hostname));
  }

  /** `node`: only workloads of this node; empty: of any. */
  local(key: LocalWorkloadKey, node: string): Workload | undefined {
    let best: Workload | undefined;
    for (const workload of this.#byIdentity.get(identityKey(key))?.values() ?? []) {
      if (node !== "" && workload.node !== node) continue;
      if (best === undefined || workload.uid < best.uid) best = workload;
    }
    return best;
  }

  /** Every workload that says it belongs to the service, healthy or not, whether the service is known or not. */
  members(key: ServiceKey): ReadonlyMap<string, Workload> | undefined {
    return this.#members.get(key);
  }

  memberKeys(): IterableIterator<ServiceKey> {
    return this.#members.keys();
  }

  /** Inserts or replaces; returns what was there before. */
  put(workload: Workload): Workload | undefined {
    const previous = this.#byUid.get(workload.uid);
    this.#replace(previous, workload);
    return previous;
  }

  remove(uid: string): Workload | undefined {
    const previous = this.#byUid.get(uid);
    if (previous !== undefined) this.#replace(previous, undefined);
    return previous;
  }

  #replace(previous: Workload | undefined, next: Workload | undefined): void {
    const touched = new Map<string, [network: string, ip: string, owner: Workload | undefined]>();
    for (const workload of [previous, next]) {
      if (workload === undefined || workload.hostNetwork) continue;
      for (const ip of workload.addresses) {
        const key = addressKey(workload.network, ip);
        if (!touched.has(key)) touched.set(key, [workload.network, ip, this.#byAddress.get(key)?.[0]]);
      }
    }
    if (previous !== undefined) this.#detach(previous);
    if (next !== undefined) this.#attach(next);
    for (const [key, [network, ip, owner]] of touched) {
      this.#onOwner(network, ip, owner, this.#byAddress.get(key)?.[0]);
    }
  }

  #attach(workload: Workload): void {
    this.#byUid.set(workload.uid, workload);
    putNested(this.#byIdentity, identityKey(workload), workload);
    if (workload.hostname !== "") {
      putNested(this.#byHostname, `${workload.namespace}/${workload.hostname}`, workload);
      putNested(this.#byHostname, workload.hostname, workload);
    }
    for (const key of workload.services.keys()) putNested(this.#members, key, workload);
    for (const ip of new Set(workload.addresses)) {
      const key = addressKey(workload.network, ip);
      if (workload.hostNetwork) this.#hostAddresses.set(key, (this.#hostAddresses.get(key) ?? 0) + 1);
      else this.#byAddress.set(key, [...(this.#byAddress.get(key) ?? []), workload].sort(preferred));
    }
  }

  #detach(workload: Workload): void {
    this.#byUid.delete(workload.uid);
    removeNested(this.#byIdentity, identityKey(workload), workload.uid);
    if (workload.hostname !== "") {
      removeNested(this.#byHostname, `${workload.namespace}/${workload.hostname}`, workload.uid);
      removeNested(this.#byHostname, workload.hostname, workload.uid);
    }
    for (const key of workload.services.keys()) removeNested(this.#members, key, workload.uid);
    for (const ip of new Set(workload.addresses)) {
      const key = addressKey(workload.network, ip);
      if (workload.hostNetwork) {
        const left = (this.#hostAddresses.get(key) ?? 1) - 1;
        if (left > 0) this.#hostAddresses.set(key, left);
        else this.#hostAddresses.delete(key);
        continue;
      }
      const left = (this.#byAddress.get(key) ?? []).filter((other) => other.uid !== workload.uid);
      if (left.length > 0) this.#byAddress.set(key, left);
      else this.#byAddress.delete(key);
    }
  }
}

export function addressKey(network: string, ip: string): string {
  return `${network}/${ip}`;
}

/** Of several workloads with one address: pods first, then HBONE (§3.4); the uid decides so that order of arrival does not. */
function preferred(a: Workload, b: Workload): number {
  const byPod = Number(b.uid.includes("//Pod/")) - Number(a.uid.includes("//Pod/"));
  if (byPod !== 0) return byPod;
  const byProtocol = Number(b.protocol === "HBONE") - Number(a.protocol === "HBONE");
  if (byProtocol !== 0) return byProtocol;
  return a.uid < b.uid ? -1 : 1;
}

function identityKey(key: LocalWorkloadKey): string {
  return `${key.namespace}/${key.name}/${key.serviceAccount}`;
}

function firstOf(workloads: ReadonlyMap<string, Workload> | undefined): Workload | undefined {
  let best: Workload | undefined;
  for (const workload of workloads?.values() ?? []) if (best === undefined || workload.uid < best.uid) best = workload;
  return best;
}

function putNested(index: Map<string, Map<string, Workload>>, key: string, workload: Workload): void {
  const inner = index.get(key);
  if (inner === undefined) index.set(key, new Map([[workload.uid, workload]]));
  else inner.set(workload.uid, workload);
}

function removeNested(index: Map<string, Map<string, Workload>>, key: string, uid: string): void {
  const inner = index.get(key);
  if (inner === undefined) return;
  inner.delete(uid);
  if (inner.size === 0) index.delete(key);
}
