import { canonicalIp } from "@tulle/base";
import type { IpFamily, Service, ServiceSpec } from "../resources/kinds.ts";

/** One address of each family (IPv6 only where the machine has it). */
export interface AddressPair {
  readonly v4: string;
  readonly v6: string | undefined;
}

/** Addresses of one machine's mesh; every range is private and chosen so that the host does not use it. */
export interface AddressPlan {
  /** The host's end of the bridge, the gateway of all pods: the control plane and DNS listen on it. */
  readonly gateway: AddressPair;
  /** Prefix lengths of the bridge. */
  readonly v4Bits: number;
  readonly v6Bits: number;
  readonly controlPlane: AddressPair;
  readonly nodes: readonly NodePlan[];
  readonly serviceCidrs: readonly string[];
  serviceAddress(index: number): AddressPair;
  /** Which number gives this address, of either family; undefined: none. */
  serviceNumber(ip: string): number | undefined;
}

export interface NodePlan {
  readonly name: string;
  readonly address: AddressPair;
  readonly podCidrs: readonly string[];
  podAddress(index: number): AddressPair;
  /** Which number gives these addresses; undefined: none. */
  podNumber(address: AddressPair): number | undefined;
}

export const NODE_COUNT = 2;
/** Of the 254 of a node's /24; the first few stay free for whoever reads the addresses. */
export const PODS_PER_NODE = 240;
const FIRST_POD = 10;
/** Of a /17; far more than a directory of YAML for one machine holds. */
export const MAX_SERVICES = 4000;

/** `second` is the second octet of 10.x.0.0/16, and tells the IPv6 ranges of several meshes apart. */
export function addressPlan(second: number, ipv6: boolean): AddressPlan {
  const v4 = (third: number, fourth: number) => `10.${second}.${third}.${fourth}`;
  // "tull" in hexadecimal: a unique local prefix (RFC 4193) that is easy to recognise in a capture.
  const prefix = `fd74:756c:6c00:${second.toString(16)}`;
  const v6 = (tail: string) => (ipv6 ? `${prefix}::${tail}` : undefined);
  const nodes = Array.from({ length: NODE_COUNT }, (_, index): NodePlan => {
    const number = index + 1;
    const podAddress = (pod: number): AddressPair => ({
      v4: v4(number, FIRST_POD + pod),
      v6: v6(`${number}:${(FIRST_POD + pod).toString(16)}`),
    });
    return {
      name: `node-${number}`,
      address: { v4: v4(0, 10 + number), v6: v6(`${10 + number}`) },
      podCidrs: [`${v4(number, 0)}/24`, ...(ipv6 ? [`${prefix}::${number}:0/112`] : [])],
      podAddress,
      podNumber: (address) => {
        const found = numbers(PODS_PER_NODE).find((pod) => podAddress(pod).v4 === address.v4);
        return found !== undefined && podAddress(found).v6 === address.v6 ? found : undefined;
      },
    };
  });
  const serviceAddress = (index: number): AddressPair => ({
    v4: v4(128 + (((index + 1) >> 8) & 0x7f), (index + 1) & 0xff),
    v6: ipv6 ? `${prefix}:ffff::${(index + 1).toString(16)}` : undefined,
  });
  return {
    gateway: { v4: v4(0, 1), v6: v6("1") },
    controlPlane: { v4: v4(0, 2), v6: v6("2") },
    v4Bits: 17,
    v6Bits: 64,
    nodes,
    serviceCidrs: [`${v4(128, 0)}/17`, ...(ipv6 ? [`${prefix}:ffff::/112`] : [])],
    serviceAddress,
    serviceNumber: (ip) => {
      const wanted = canonicalIp(ip);
      return numbers(MAX_SERVICES).find((index) => {
        const pair = serviceAddress(index);
        return pair.v4 === wanted || (pair.v6 !== undefined && canonicalIp(pair.v6) === wanted);
      });
    },
  };
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

/** Every range in which an address that the mesh does not know must be refused. */
export function meshCidrs(plan: AddressPlan): string[] {
  return [...plan.nodes.flatMap((node) => node.podCidrs), ...plan.serviceCidrs];
}

/**
 * Hands out numbers below `size`. A number that comes back waits until all others had their turn, so that an address does
 * not change hands while somebody may still remember it.
 */
export class NumberPool {
  readonly #size: number;
  readonly #used = new Map<string, number>();
  readonly #taken = new Set<number>();
  #next = 0;

  constructor(size: number) {
    this.#size = size;
  }

  /** The number of `key`, always the same until it is released. Undefined when none is left. */
  take(key: string): number | undefined {
    const known = this.#used.get(key);
    if (known !== undefined) return known;
    for (let tries = 0; tries < this.#size; tries++) {
      const candidate = this.#next;
      this.#next = (this.#next + 1) % this.#size;
      if (this.#taken.has(candidate)) continue;
      this.#used.set(key, candidate);
      this.#taken.add(candidate);
      return candidate;
    }
    return undefined;
  }

  /** Gives `key` this number. False: it is another's, or `key` has one. */
  adopt(key: string, number: number): boolean {
    if (this.#taken.has(number) || this.#used.has(key) || number >= this.#size) return false;
    this.#used.set(key, number);
    this.#taken.add(number);
    this.#next = Math.max(this.#next, (number + 1) % this.#size);
    return true;
  }

  release(key: string): void {
    const number = this.#used.get(key);
    if (number === undefined) return;
    this.#used.delete(key);
    this.#taken.delete(number);
  }

  keys(): string[] {
    return [...this.#used.keys()];
  }
}

/**
 * What a cluster would have written into the service: those addresses of `pair` that its families ask for. A service without
 * a cluster IP has none.
 */
export function clusterIpsOf({ spec }: Service, pair: AddressPair): Pick<ServiceSpec, "clusterIP" | "clusterIPs"> {
  if (spec.clusterIP === "None") return { clusterIPs: ["None"] };
  const { ipFamilies, ipFamilyPolicy } = spec;
  const dual = ipFamilyPolicy === "PreferDualStack" || ipFamilyPolicy === "RequireDualStack";
  const first = ipFamilies?.[0] ?? "IPv4";
  const second: IpFamily = first === "IPv4" ? "IPv6" : "IPv4";
  const families = (dual || ipFamilies?.length === 2 ? [first, second] : [first]).filter(
    (family) => family === "IPv4" || pair.v6 !== undefined,
  );
  const clusterIPs = families.map((family) => (family === "IPv4" ? pair.v4 : (pair.v6 ?? "")));
  return { clusterIP: clusterIPs[0] ?? "", clusterIPs };
}
