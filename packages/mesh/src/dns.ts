import { isIpv6, type Random } from "@tulle/base";
import { aliasesOf, type NameAlias, searchDomainsOf, wildcardsOf } from "./dns-names.ts";
import { type Service, serviceKey, type Workload } from "./model.ts";
import { bestService, isVisible } from "./service-index.ts";
import type { MeshState } from "./state.ts";

export interface DnsQuery {
  /** The pod that asks. */
  readonly client: Workload;
  /** As asked; case and a final dot do not matter. */
  readonly name: string;
  /** A or AAAA; other types are forwarded by the caller. */
  readonly family: "IPv4" | "IPv6";
  /** Only VIPs and endpoints of this network are given. */
  readonly network: string;
  /** `cluster.local` */
  readonly clusterDomain: string;
  /** IPV6_ENABLED; false: no AAAA record is ever given. */
  readonly ipv6Enabled: boolean;
  /** PREFERED_SERVICE_NAMESPACE */
  readonly preferredNamespace?: string | undefined;
  /** Of resolv.conf (dedicated mode); undefined: those that Kubernetes gives to a pod of the client's namespace. */
  readonly searchDomains?: readonly string[] | undefined;
  readonly random: Random;
}

export type DnsDecision =
  /** In random order. `cname`: the name asked for is an alias of this one, which has the addresses. */
  | { readonly kind: "answer"; readonly addresses: readonly string[]; readonly cname: string | undefined }
  /** The name is the mesh's, but there is nothing of this family: NOERROR, empty, authoritative; never forwarded. */
  | { readonly kind: "nodata"; readonly cname: string | undefined }
  /** Not the mesh's. */
  | { readonly kind: "forward" };

/** What the mesh knows of a name (spec: l4-ztunnel §8). Never throws. */
export function resolveDns(state: MeshState, query: DnsQuery): DnsDecision {
  const found = findService(state, query);
  if (found === undefined) return { kind: "forward" };
  const addresses = addressesOf(state, query, found.service);
  const cname = found.cname;
  return addresses.length === 0
    ? { kind: "nodata", cname }
    : { kind: "answer", addresses: shuffled(addresses, query.random), cname };
}

interface FoundService {
  readonly service: Service;
  readonly cname: string | undefined;
}

function findService(state: MeshState, query: DnsQuery): FoundService | undefined {
  const { client, clusterDomain, preferredNamespace } = query;
  const { namespace } = client;
  const asked = query.name.toLowerCase().replace(/\.$/, "");
  const domains = query.searchDomains ?? searchDomainsOf(namespace, clusterDomain);
  const suffix = `.svc.${clusterDomain}`;
  const best = (hostname: string) => {
    const candidates = state.servicesByHostname(hostname).filter((service) => {
      return isVisible(service, namespace) && (service.vips.length > 0 || service.hostname.endsWith(suffix));
    });
    return bestService(candidates, namespace, preferredNamespace);
  };
  const exact = (alias: NameAlias): FoundService | undefined => {
    const service = best(alias.name);
    return service && { service, cname: alias.stripped };
  };
  for (const alias of aliasesOf(asked, namespace, clusterDomain, domains)) {
    const found = exact(alias);
    if (found !== undefined) return found;
    for (const wildcard of wildcardsOf(alias.name)) {
      const service = best(wildcard);
      if (service !== undefined) return { service, cname: undefined };
    }
  }
  return undefined;
}

function addressesOf(state: MeshState, query: DnsQuery, service: Service): readonly string[] {
  const v6 = query.family === "IPv6";
  if (v6 && !query.ipv6Enabled) return [];
  if (service.ipFamilies === (v6 ? "IPv4" : "IPv6")) return [];
  const fits = (ip: string) => isIpv6(ip) === v6;
  if (service.vips.length > 0) {
    const ips = service.vips.filter((vip) => vip.network === query.network && fits(vip.ip)).map((vip) => vip.ip);
    return [...new Set(ips)];
  }
  const ips: string[] = [];
  for (const endpoint of state.endpoints(service, serviceKey(service)).workloads) {
    if (endpoint.network !== query.network) continue;
    const ip = endpoint.addresses.find(fits);
    if (ip !== undefined) ips.push(ip);
  }
  return [...new Set(ips)];
}

/** Fisher–Yates, on a copy. */
function shuffled(values: readonly string[], random: Random): readonly string[] {
  const result = [...values];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const [a = "", b = ""] = [result[i], result[j]];
    result[i] = b;
    result[j] = a;
  }
  return result;
}
