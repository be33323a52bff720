import { type Cidr, cidrContains, type Clock, isIpv6 } from "@tulle/base";
import { type AddressPool, createAddressPool, lastOf } from "./address-pool.ts";
import type { VipAddress, VipEntry } from "./vip-entry.ts";

export interface VipRanges {
  /** Undefined: no addresses of this family. */
  readonly ipv4: Cidr | undefined;
  readonly ipv6: Cidr | undefined;
}

export interface VipDecision {
  /** What is to stand in the status; undefined: it is as it should be. */
  readonly addresses: readonly VipAddress[] | undefined;
  /** Addresses that stand there but belong to somebody else. */
  readonly lost: readonly string[];
  /** Families in which no address is left. */
  readonly exhausted: readonly ("IPv4" | "IPv6")[];
}

interface Known {
  readonly entry: VipEntry;
  /** Decided, and not seen in the status yet. */
  granted: readonly VipAddress[];
}

/**
 * How long an address rests after its entry has gone: clients and their resolvers may still have it, and would reach a
 * stranger. Longer than any TTL of ours, and than what applications usually keep names for.
 */
const QUARANTINE_MS = 10 * 60_000;
/** Addresses that rest at a time: as many as the IPv4 range has. The oldest is free again before its time. */
const MAX_QUARANTINED = 65_536;

/** Who has which address. All that stands in a status is known before anything is handed out. */
export class VipRegistry {
  readonly #clock: Clock;
  readonly #pools: readonly { readonly family: "IPv4" | "IPv6"; readonly pool: AddressPool }[];
  readonly #entries = new Map<string, Known>();
  readonly #claims = new Map<string, Set<string>>();
  readonly #ranges = new Map<string, readonly Cidr[]>();
  /** Address → when it is free again; in that order. */
  readonly #resting = new Map<string, number>();
  readonly #starved = new Set<string>();
  #handing = false;

  constructor({ clock, ipv4, ipv6 }: VipRanges & { readonly clock: Clock }) {
    this.#clock = clock;
    this.#pools = [
      ...(ipv4 === undefined ? [] : [{ family: "IPv4" as const, pool: createAddressPool(ipv4) }]),
      ...(ipv6 === undefined ? [] : [{ family: "IPv6" as const, pool: createAddressPool(ipv6) }]),
    ];
  }

  get(key: string): VipEntry | undefined {
    return this.#entries.get(key)?.entry;
  }

  get counts(): { readonly entries: number; readonly addresses: number; readonly resting: number } {
    return { entries: this.#entries.size, addresses: this.#claims.size, resting: this.#resting.size };
  }

  /** Returns the entries about which there is something to decide now. */
  put(entry: VipEntry): ReadonlySet<string> {
    const { key } = entry;
    const known = this.#entries.get(key);
    const before = known === undefined ? [] : claimsOf(known);
    const seen = new Set(entry.auto.map(addressId));
    const granted = (known?.granted ?? []).filter((one) => !seen.has(addressId(one)) && entry.hosts.includes(one.host));
    const now: Known = { entry, granted };
    this.#entries.set(key, now);
    const due = new Set([key]);
    for (const ip of claimsOf(now)) {
      const claimants = this.#claims.get(ip) ?? new Set();
      this.#claims.set(ip, claimants.add(key));
      this.#resting.delete(ip);
      // What is free below the highest may have been somebody's a moment ago: it comes last.
      if (!this.#handing) for (const { pool } of this.#pools) pool.passed(ip);
      for (const other of claimants) due.add(other);
    }
    this.#setRanges(entry, due);
    this.#release(key, before, new Set(claimsOf(now)), due);
    return due;
  }

  remove(key: string): ReadonlySet<string> {
    const known = this.#entries.get(key);
    const due = new Set<string>();
    if (known === undefined) return due;
    this.#entries.delete(key);
    this.#starved.delete(key);
    this.#ranges.delete(key);
    this.#release(key, claimsOf(known), new Set(), due);
    return due;
  }

  /** Reserves what it says: asked again, it says the same until the status says it. */
  decide(key: string): VipDecision {
    this.#handing = true;
    const known = this.#entries.get(key);
    if (known === undefined) return { addresses: undefined, lost: [], exhausted: [] };
    const { entry } = known;
    const taken = new Set<string>();
    const wanted: VipAddress[] = [];
    const exhausted = new Set<"IPv4" | "IPv6">();
    for (const host of entry.hosts) {
      for (const family of ["IPv4", "IPv6"] as const) {
        const found = this.#addressFor(known, host, family, taken);
        if (found === "exhausted") exhausted.add(family);
        if (found === undefined || found === "exhausted") continue;
        taken.add(found.ip);
        wanted.push({ value: found.ip, host });
      }
    }
    if (exhausted.size > 0) this.#starved.add(key);
    else this.#starved.delete(key);
    const present = new Set(entry.auto.map(addressId));
    const before = claimsOf(known);
    known.granted = wanted.filter((one) => !present.has(addressId(one)));
    this.#release(key, before, new Set(claimsOf(known)), new Set());
    const current = entry.auto.filter(({ host }) => entry.hosts.includes(host)).map(({ value }) => value);
    const lost = current.filter((ip) => !this.#owns(entry, ip));
    const same = known.granted.length === 0 && wanted.length === entry.auto.length;
    const stale = wanted.length === 0 && entry.hasStatus;
    return { addresses: same && !stale ? undefined : wanted, lost, exhausted: [...exhausted] };
  }

  /** Keeps what it has, unless somebody else has the better right; else the next free one. */
  #addressFor(
    known: Known,
    host: string,
    family: "IPv4" | "IPv6",
    taken: ReadonlySet<string>,
  ): { readonly ip: string } | "exhausted" | undefined {
    const { entry } = known;
    const kept = [...entry.auto, ...known.granted].find(
      ({ value, host: of }) =>
        of === host && isIpv6(value) === (family === "IPv6") && !taken.has(value) && this.#owns(entry, value),
    );
    if (kept !== undefined) return { ip: kept.value };
    const pool = this.#pools.find((one) => one.family === family)?.pool;
    if (pool === undefined) return undefined;
    const ip = this.#nextFree(pool);
    if (ip === undefined) return "exhausted";
    this.#claims.set(ip, new Set([entry.key]));
    return { ip };
  }

  #nextFree(pool: AddressPool): string | undefined {
    const now = this.#clock.now();
    for (const [ip, until] of this.#resting) {
      if (until > now) break;
      this.#resting.delete(ip);
    }
    const free = (ip: string) => !this.#claims.has(ip) && !this.#resting.has(ip);
    const found = pool.next(free, (ip) => this.#rangeEnd(ip));
    if (found !== undefined) return found;
    // Better one that has not rested long enough than none: the one that has rested longest.
    const [rested] = [...this.#resting.keys()].filter((ip) => pool.has(ip) && this.#rangeEnd(ip) === undefined);
    if (rested !== undefined) this.#resting.delete(rested);
    return rested;
  }

  /** Whether nobody has a better right to the address: a user's word first, then the oldest entry. */
  #owns(entry: VipEntry, ip: string): boolean {
    for (const [key, ranges] of this.#ranges) {
      if (key !== entry.key && ranges.some((range) => cidrContains(range, ip))) return false;
    }
    for (const key of this.#claims.get(ip) ?? []) {
      const other = this.#entries.get(key)?.entry;
      if (other === undefined || key === entry.key) continue;
      if (other.user.includes(ip) || isOlder(other, entry)) return false;
    }
    return true;
  }

  #rangeEnd(ip: string): string | undefined {
    for (const ranges of this.#ranges.values()) {
      const range = ranges.find((one) => cidrContains(one, ip));
      if (range !== undefined) return lastOf(range);
    }
    return undefined;
  }

  #setRanges({ key, userRanges }: VipEntry, due: Set<string>): void {
    const known = this.#ranges.get(key);
    if (userRanges.length === 0) this.#ranges.delete(key);
    else this.#ranges.set(key, userRanges);
    if (userRanges.length === 0 || JSON.stringify(known) === JSON.stringify(userRanges)) return;
    for (const [ip, keys] of this.#claims) {
      if (!userRanges.some((range) => cidrContains(range, ip))) continue;
      for (const other of keys) due.add(other);
    }
  }

  #release(key: string, before: readonly string[], after: ReadonlySet<string>, due: Set<string>): void {
    let released = false;
    for (const ip of before) {
      const claimants = this.#claims.get(ip);
      if (after.has(ip) || claimants === undefined || !claimants.delete(key)) continue;
      // Whoever is left may have yielded to the one that goes.
      for (const other of claimants) due.add(other);
      if (claimants.size > 0) continue;
      this.#claims.delete(ip);
      released = true;
      if (this.#pools.some(({ pool }) => pool.has(ip))) this.#rest(ip);
    }
    if (released) for (const starved of this.#starved) due.add(starved);
  }

  #rest(ip: string): void {
    this.#resting.delete(ip);
    this.#resting.set(ip, this.#clock.now() + QUARANTINE_MS);
    const [oldest] = this.#resting.keys();
    if (this.#resting.size > MAX_QUARANTINED && oldest !== undefined) this.#resting.delete(oldest);
  }
}

function claimsOf({ entry, granted }: Known): readonly string[] {
  return [...entry.user, ...[...entry.auto, ...granted].map(({ value }) => value)];
}

function addressId({ value, host }: VipAddress): string {
  return `${value} ${host}`;
}

function isOlder(a: VipEntry, b: VipEntry): boolean {
  return a.created < b.created || (a.created === b.created && a.key < b.key);
}
