import type { ServiceKey, Workload } from "./model.ts";
import { MultiIndex } from "./multi-index.ts";

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
  /** By `network/ip`. Host-network workloads are not here. */
  readonly #byAddress = new MultiIndex();
  /** Host-network workloads by `network/ip`. */
  readonly #byHostAddress = new MultiIndex();
  readonly #byIdentity = new MultiIndex();
  /** By `namespace/hostname` and by `hostname`. */
  readonly #byHostname = new MultiIndex();
  readonly #members = new MultiIndex();
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
    return this.#byAddress.best(addressKey(network, ip), isPreferred);
  }

  /** A node's address: known, but it stands for no single workload. */
  isHostAddress(network: string, ip: string): boolean {
    return this.#byHostAddress.best(addressKey(network, ip), isFirst) !== undefined;
  }

  byHostname(namespace: string, hostname: string): Workload | undefined {
    return this.#byHostname.best(`${namespace}/${hostname}`, isFirst);
  }

  /** Any workload with this hostname, whatever its namespace; the smallest uid when there are several. */
  anyByHostname(hostname: string): Workload | undefined {
    return this.#byHostname.best(hostname, isFirst);
  }

  /** `node`: only workloads of this node; empty: of any. */
  local(key: LocalWorkloadKey, node: string): Workload | undefined {
    let best: Workload | undefined;
    for (const workload of this.#byIdentity.get(identityKey(key)).values()) {
      if (node !== "" && workload.node !== node) continue;
      if (best === undefined || isFirst(workload, best)) best = workload;
    }
    return best;
  }

  /** Every workload that says it belongs to the service, healthy or not, whether the service is known or not. */
  members(key: ServiceKey): ReadonlyMap<string, Workload> {
    return this.#members.get(key);
  }

  isMember(key: ServiceKey, uid: string): boolean {
    return this.#members.has(key, uid);
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
    const owners: [network: string, ip: string, owner: Workload | undefined][] = [];
    const note = (workload: Workload | undefined) => {
      if (workload === undefined || workload.hostNetwork) return;
      const { network } = workload;
      for (const ip of workload.addresses) {
        if (owners.some((owner) => owner[0] === network && owner[1] === ip)) continue;
        owners.push([network, ip, this.byAddress(network, ip)]);
      }
    };
    note(previous);
    note(next);
    if (previous !== undefined) this.#detach(previous);
    if (next !== undefined) this.#attach(next);
    for (const [network, ip, owner] of owners) this.#onOwner(network, ip, owner, this.byAddress(network, ip));
  }

  #attach(workload: Workload): void {
    this.#byUid.set(workload.uid, workload);
    this.#byIdentity.put(identityKey(workload), workload);
    if (workload.hostname !== "") {
      this.#byHostname.put(`${workload.namespace}/${workload.hostname}`, workload);
      this.#byHostname.put(workload.hostname, workload);
    }
    for (const key of workload.services.keys()) this.#members.put(key, workload);
    const addresses = workload.hostNetwork ? this.#byHostAddress : this.#byAddress;
    for (const ip of workload.addresses) addresses.put(addressKey(workload.network, ip), workload);
  }

  #detach(workload: Workload): void {
    const { uid } = workload;
    this.#byUid.delete(uid);
    this.#byIdentity.remove(identityKey(workload), uid);
    if (workload.hostname !== "") {
      this.#byHostname.remove(`${workload.namespace}/${workload.hostname}`, uid);
      this.#byHostname.remove(workload.hostname, uid);
    }
    for (const key of workload.services.keys()) this.#members.remove(key, uid);
    const addresses = workload.hostNetwork ? this.#byHostAddress : this.#byAddress;
    for (const ip of workload.addresses) addresses.remove(addressKey(workload.network, ip), uid);
  }
}

export function addressKey(network: string, ip: string): string {
  return `${network}/${ip}`;
}

/** Of several workloads with one address: pods first, then HBONE (§3.4); the uid decides so that order of arrival does not. */
function isPreferred(a: Workload, b: Workload): boolean {
  const aIsPod = a.uid.includes("//Pod/");
  if (aIsPod !== b.uid.includes("//Pod/")) return aIsPod;
  if (a.protocol !== b.protocol) return a.protocol === "HBONE";
  return isFirst(a, b);
}

function isFirst(a: Workload, b: Workload): boolean {
  return a.uid < b.uid;
}

function identityKey(key: LocalWorkloadKey): string {
  return `${key.namespace}/${key.name}/${key.serviceAccount}`;
}
