import type { Cidr } from "@tulle/base";
import { PrefixTable } from "../prefix-table.ts";
import { before, type Claim } from "./ownership.ts";
import { same } from "./same.ts";

/**
 * Somebody who has an address. Pods and Services count by namespace (no name); a WorkloadEntry by itself, since it is what
 * somebody says, and so has to be older than what it is held against.
 */
export type Holder = Claim;

interface Held {
  readonly holder: Holder;
  /** Addresses in the range, counted as often as they are had. */
  count: number;
}

interface Range {
  readonly key: string;
  readonly cidr: Cidr;
  readonly held: Map<string, Held>;
  leaders: readonly Holder[];
}

/**
 * Who has addresses within the ranges that ServiceEntries ask for. An address that comes or goes costs a look at the
 * ranges around it, of which there is one for each length of prefix at most, however many entries ask for them.
 */
export class RangeHolders {
  readonly #ranges = new Map<string, Range>();
  readonly #counted = new PrefixTable<Range>();
  /** Those that came since the last `count`. */
  #fresh = new Map<string, Range>();

  /** Nothing is known of the range before the next `count`. */
  add(key: string, cidr: Cidr): void {
    if (this.#ranges.has(key)) return;
    const range: Range = { key, cidr, held: new Map(), leaders: [] };
    this.#ranges.set(key, range);
    this.#fresh.set(key, range);
  }

  remove(key: string): void {
    const range = this.#ranges.get(key);
    if (range === undefined) return;
    this.#ranges.delete(key);
    if (!this.#fresh.delete(key)) this.#counted.remove(range.cidr, range);
  }

  /** `holder` had the addresses `old` and has `current`. Returns the keys of ranges that have other leaders now. */
  move(holder: Holder, old: Iterable<string>, current: Iterable<string>): readonly string[] {
    if (this.#counted.empty) return [];
    const [gone, come] = [new Set(old), new Set(current)];
    const touched = new Set<Range>();
    const each = (ips: ReadonlySet<string>, others: ReadonlySet<string>, by: number) => {
      for (const ip of ips) {
        if (others.has(ip)) continue;
        this.#counted.visit(ip, (range) => {
          if (change(range, holder, by)) touched.add(range);
        });
      }
    };
    each(come, gone, 1);
    each(gone, come, -1);
    return [...touched].filter(refresh).map(({ key }) => key);
  }

  /** Takes in all that is held, for ranges that have come. */
  count(all: () => Iterable<readonly [ip: string, holder: Holder]>): void {
    if (this.#fresh.size === 0) return;
    const table = new PrefixTable<Range>();
    for (const range of this.#fresh.values()) {
      table.add(range.cidr, range);
      this.#counted.add(range.cidr, range);
    }
    for (const [ip, holder] of all()) table.visit(ip, (range) => change(range, holder, 1));
    for (const range of this.#fresh.values()) refresh(range);
    this.#fresh = new Map();
  }

  /**
   * Who decides whether anybody may have the range: of pods and Services the first and the first of another namespace, of
   * WorkloadEntries the oldest and the oldest of another namespace.
   */
  leaders(key: string): readonly Holder[] {
    return this.#ranges.get(key)?.leaders ?? [];
  }

  get size(): number {
    return this.#ranges.size;
  }
}

/** Whether a holder is new in the range or has left it. */
function change(range: Range, holder: Holder, by: number): boolean {
  const id = `${holder.kind} ${holder.namespace}/${holder.name}`;
  const held = range.held.get(id);
  if (held === undefined) {
    range.held.set(id, { holder, count: by });
    return true;
  }
  held.count += by;
  if (held.count !== 0) return false;
  range.held.delete(id);
  return true;
}

/** Whether its leaders are others now. */
function refresh(range: Range): boolean {
  const leaders: (Holder | undefined)[] = [undefined, undefined, undefined, undefined];
  for (const { holder } of range.held.values()) {
    const place = holder.kind === "WorkloadEntry" ? 2 : 0;
    const [first, second] = leaders.slice(place);
    if (first === undefined || before(holder, first) < 0) {
      leaders[place] = holder;
      if (first !== undefined && first.namespace !== holder.namespace) leaders[place + 1] = first;
    } else if (first.namespace !== holder.namespace && (second === undefined || before(holder, second) < 0)) {
      leaders[place + 1] = holder;
    }
  }
  const after = leaders.flatMap((holder) => holder ?? []);
  if (same(range.leaders, after)) return false;
  range.leaders = after;
  return true;
}
