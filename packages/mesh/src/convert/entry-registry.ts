import { endpointIp, endpointNetwork } from "./endpoint.ts";
import type { KubeWorkloadEntry } from "./istio-objects.ts";
import type { KubeService } from "./kubernetes.ts";
import type { EntryMembers } from "./membership.ts";
import {
  type Admission,
  addressKey,
  admit,
  type Claim,
  Claims,
  entryClaim,
  entryClaimKeys,
  type Owners,
  rangeKey,
  serviceClaim,
  serviceClaimKeys,
  workloadEntryClaim,
} from "./ownership.ts";
import { type Holder, RangeHolders } from "./range-holders.ts";
import { same } from "./same.ts";
import { clusterIps } from "./service.ts";
import type { Entry, UnreadableEntry } from "./service-entry.ts";

interface Claimed {
  readonly claim: Claim;
  readonly keys: readonly string[];
  /** Addresses that it has, as far as ranges are concerned: none of a ServiceEntry's. */
  readonly ips: readonly string[];
}

const NOTHING: Admission = { hosts: [], problems: [] };
const NO_MEMBERS: ReadonlyMap<string, EntryMembers> = new Map();

const NO_IPS: readonly string[] = [];

/** Every ServiceEntry, what all of them and the Services and WorkloadEntries ask for, and what of it each entry has. */
export class EntryRegistry {
  readonly #claims = new Claims();
  readonly #holders = new RangeHolders();
  readonly #claimed = new Map<string, Claimed>();
  readonly #entries = new Map<string, Entry | UnreadableEntry>();
  readonly #admissions = new Map<string, Admission>();
  /** Entries that select workloads and are sent, by namespace and name. */
  readonly #members = new Map<string, Map<string, EntryMembers>>();

  /** Claims of a Service; undefined: it has none (any more). Returns the entries that are to be judged again. */
  setService(
    key: string,
    service: KubeService | undefined,
    place: { readonly clusterDomain: string; readonly network: string },
  ): readonly string[] {
    const keys = service === undefined ? [] : serviceClaimKeys(service, place.clusterDomain, place.network);
    if (service === undefined || keys.length === 0) return this.#claim(`Service ${key}`, undefined);
    return this.#claim(`Service ${key}`, { claim: serviceClaim(service), keys, ips: clusterIps(service) });
  }

  /** As `setService`. In another network than the cluster's its address is nobody's business here. */
  setWorkloadEntry(key: string, entry: KubeWorkloadEntry | undefined, network: string): readonly string[] {
    const spec = entry?.spec ?? {};
    const ip = endpointNetwork(spec, network) === network ? endpointIp(spec) : undefined;
    const unit = `WorkloadEntry ${key}`;
    if (entry === undefined || ip === undefined) return this.#claim(unit, undefined);
    return this.#claim(unit, { claim: workloadEntryClaim(entry), keys: [addressKey(network, ip)], ips: [ip] });
  }

  /** The addresses of a namespace's pod are others. Returns the entries that are to be judged again. */
  movePod(namespace: string, old: readonly string[], current: readonly string[]): readonly string[] {
    return this.#wantingRanges(this.#holders.move(podHolder(namespace), old, current));
  }

  /** To be called after changes, before anything is judged. `pods`: addresses, each with the namespaces that have it. */
  settle(pods: () => Iterable<readonly [ip: string, namespaces: Iterable<string>]>): void {
    this.#holders.count(() => this.#allHeld(pods()));
  }

  /** undefined: it is gone. Returns the entries that are to be judged again: itself and those that want the same. */
  setEntry(key: string, entry: Entry | UnreadableEntry | undefined): readonly string[] {
    if (entry === undefined) this.#entries.delete(key);
    else this.#entries.set(key, entry);
    const readable = entry !== undefined && "hosts" in entry ? entry : undefined;
    const unit = `ServiceEntry ${key}`;
    const old = this.#claimed.get(unit)?.keys ?? [];
    const claimed = readable && { claim: entryClaim(readable), keys: entryClaimKeys(readable), ips: NO_IPS };
    const touched = this.#claim(unit, claimed);
    for (const range of readable?.hosts.flatMap(({ cidrVips }) => cidrVips) ?? []) {
      this.#holders.add(rangeKey(range), range.cidr);
    }
    for (const known of old) if (this.#claims.get(known).length === 0) this.#holders.remove(known);
    return [key, ...touched];
  }

  get(key: string): Entry | UnreadableEntry | undefined {
    return this.#entries.get(key);
  }

  /** Entries that want this address for themselves. */
  wanting(network: string, ip: string): readonly string[] {
    return entriesOf(this.#claims.get(addressKey(network, ip)));
  }

  /** Judges an entry. Returns what it selects and selected before, if that is different now. */
  judge(key: string, others: Pick<Owners, "foreignPod" | "clusterDomain">): readonly EntryMembers[] {
    const slash = key.indexOf("/");
    const [namespace, name] = [key.slice(0, slash), key.slice(slash + 1)];
    const entry = this.#entries.get(key);
    const readable = entry !== undefined && "hosts" in entry ? entry : undefined;
    const owners = { ...others, claims: this.#claims.get, leaders: (range: string) => this.#holders.leaders(range) };
    const admission = readable === undefined ? NOTHING : admit(readable, owners);
    if (readable === undefined) this.#admissions.delete(key);
    else this.#admissions.set(key, admission);
    const before = this.#members.get(namespace)?.get(name);
    const after = readable && membersOf(readable, admission);
    if (same(before, after)) return [];
    this.#setMembers(namespace, name, after);
    return [before, after].flatMap((one) => one ?? []);
  }

  admission(key: string): Admission {
    return this.#admissions.get(key) ?? NOTHING;
  }

  membersIn(namespace: string): readonly EntryMembers[] {
    return [...(this.#members.get(namespace) ?? NO_MEMBERS).values()];
  }

  #claim(owner: string, after: Claimed | undefined): readonly string[] {
    const before = this.#claimed.get(owner);
    if (same(before, after)) return [];
    for (const key of before?.keys ?? []) if (before !== undefined) this.#claims.remove(key, before.claim);
    for (const key of after?.keys ?? []) if (after !== undefined) this.#claims.add(key, after.claim);
    if (after === undefined) this.#claimed.delete(owner);
    else this.#claimed.set(owner, after);
    const touched = new Set([...(before?.keys ?? []), ...(after?.keys ?? [])]);
    return [...[...touched].flatMap((key) => entriesOf(this.#claims.get(key))), ...this.#move(before, after)];
  }

  #move(before: Claimed | undefined, after: Claimed | undefined): readonly string[] {
    const [old, current] = [before && holderOf(before), after && holderOf(after)];
    const ranges: string[] = [];
    if (old !== undefined && current !== undefined && same(old, current)) {
      ranges.push(...this.#holders.move(current, before?.ips ?? [], after?.ips ?? []));
    } else {
      if (old !== undefined) ranges.push(...this.#holders.move(old, before?.ips ?? [], []));
      if (current !== undefined) ranges.push(...this.#holders.move(current, [], after?.ips ?? []));
    }
    return this.#wantingRanges(ranges);
  }

  #wantingRanges(ranges: readonly string[]): readonly string[] {
    return ranges.flatMap((range) => entriesOf(this.#claims.get(range)));
  }

  *#allHeld(pods: Iterable<readonly [string, Iterable<string>]>): Iterable<readonly [string, Holder]> {
    for (const [ip, namespaces] of pods) for (const namespace of namespaces) yield [ip, podHolder(namespace)];
    for (const claimed of this.#claimed.values()) {
      for (const ip of new Set(claimed.ips)) yield [ip, holderOf(claimed)];
    }
  }

  #setMembers(namespace: string, name: string, members: EntryMembers | undefined): void {
    const known = this.#members.get(namespace);
    if (members !== undefined) {
      if (known === undefined) this.#members.set(namespace, new Map([[name, members]]));
      else known.set(name, members);
    } else {
      known?.delete(name);
      if (known?.size === 0) this.#members.delete(namespace);
    }
  }
}

function podHolder(namespace: string): Holder {
  return { kind: "Pod", namespace, name: "", created: 0, private: false };
}

function holderOf({ claim }: Claimed): Holder {
  return claim.kind === "Service" ? { ...claim, name: "" } : claim;
}

function entriesOf(claims: readonly Claim[]): readonly string[] {
  return claims.filter(({ kind }) => kind === "ServiceEntry").map(({ namespace, name }) => `${namespace}/${name}`);
}

function membersOf(entry: Entry, { hosts }: Admission): EntryMembers | undefined {
  const { namespace, selector, ports } = entry;
  if (Object.keys(selector).length === 0 || hosts.length === 0) return undefined;
  return { namespace, selector, ports, hosts: hosts.map(({ host }) => host) };
}
