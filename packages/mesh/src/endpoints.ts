import type { Random } from "@tulle/base";
import type { Service, ServiceKey, Workload } from "./model.ts";

/**
 * Blind draws before every endpoint is looked at. An endpoint is seldom refused, so one draw is usually enough, and a
 * service of ten thousand endpoints is as cheap as one of ten.
 */
const BLIND_DRAWS = 16;

/** The endpoints of a service that may get traffic, ready for weighted random choice. Built once per change of them. */
export class EndpointPool {
  readonly service: Service;
  readonly key: ServiceKey;
  /** Healthy ones (all, if the service wants so) with a weight above zero. */
  readonly workloads: readonly Workload[];
  /** Running sums of the weights; undefined when all are equal. */
  readonly #sums: readonly number[] | undefined;

  constructor(service: Service, key: ServiceKey, members: Iterable<Workload>) {
    this.service = service;
    this.key = key;
    const allowAll = service.loadBalancer?.healthPolicy === "AllowAll";
    const workloads: Workload[] = [];
    for (const member of members) {
      if ((member.healthy || allowAll) && member.capacity > 0) workloads.push(member);
    }
    this.workloads = workloads;
    this.#sums = workloads.every((w) => w.capacity === workloads[0]?.capacity) ? undefined : runningSums(workloads);
  }

  /** A weighted random endpoint among those that `accept` lets pass. */
  pick(random: Random, accept: (workload: Workload) => boolean): Workload | undefined {
    if (this.workloads.length === 0) return undefined;
    for (let i = 0; i < BLIND_DRAWS; i++) {
      const drawn = this.#draw(random());
      if (drawn !== undefined && accept(drawn)) return drawn;
    }
    return pickWeighted(this.workloads.filter(accept), (workload) => workload.capacity, random);
  }

  /** A weighted random endpoint among the accepted ones with the highest rank. */
  pickHighest(
    random: Random,
    accept: (workload: Workload) => boolean,
    rank: (workload: Workload) => number,
  ): Workload | undefined {
    let highest = Number.NEGATIVE_INFINITY;
    let best: Workload[] = [];
    for (const workload of this.workloads) {
      if (!accept(workload)) continue;
      const value = rank(workload);
      if (value < highest) continue;
      if (value > highest) best = [];
      highest = value;
      best.push(workload);
    }
    return pickWeighted(best, (workload) => workload.capacity, random);
  }

  #draw(chance: number): Workload | undefined {
    const { workloads } = this;
    const sums = this.#sums;
    if (sums === undefined) return workloads[Math.floor(chance * workloads.length)];
    const target = chance * (sums.at(-1) ?? 0);
    let low = 0;
    let high = sums.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] ?? 0) > target) high = middle;
      else low = middle + 1;
    }
    return workloads[low];
  }
}

/** One item by weight; items of weight zero are never picked; undefined when nothing is left. */
export function pickWeighted<T>(items: readonly T[], weight: (item: T) => number, random: Random): T | undefined {
  let total = 0;
  for (const item of items) total += weight(item);
  if (total <= 0) return undefined;
  let target = random() * total;
  let last: T | undefined;
  for (const item of items) {
    const share = weight(item);
    if (share <= 0) continue;
    if (target < share) return item;
    target -= share;
    last = item;
  }
  return last;
}

function runningSums(workloads: readonly Workload[]): readonly number[] {
  let sum = 0;
  return workloads.map((workload) => {
    sum += workload.capacity;
    return sum;
  });
}
