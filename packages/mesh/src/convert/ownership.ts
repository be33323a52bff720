import { clusterIps, serviceHostname } from "./service.ts";
import { type KubeService, namespaceOf, nameOf } from "./kubernetes.ts";
import type { CidrVip } from "../model.ts";
import type { KubeWorkloadEntry } from "./istio-objects.ts";
import { createdOf, type Entry, type EntryHost } from "./service-entry.ts";

/**
 * Who has a hostname or address that several objects ask for. A ServiceEntry never takes over what another namespace has:
 * what Kubernetes gives out (Services, addresses of pods) goes before ServiceEntries and WorkloadEntries, of these an older
 * one before a younger one, and the loser is not sent. Whether the owner is sent itself, or is of a namespace that is
 * discovered at all, does not matter: otherwise who wins would depend on who else loses.
 *
 * A range of addresses takes everything within it that nobody has for a Service: node proxies look up Services, ranges
 * included, before workloads. So it is not sent when another namespace has an address in it. Between ServiceEntries only
 * equal ranges meet: otherwise the narrower one goes first, with every proxy.
 */
export interface Claim {
  readonly kind: "Pod" | "Service" | "ServiceEntry" | "WorkloadEntry";
  readonly namespace: string;
  readonly name: string;
  /** Milliseconds since the epoch. */
  readonly created: number;
  /** Seen by its own namespace only: it takes nothing away from the others. */
  readonly private: boolean;
}

export interface AdmittedHost extends EntryHost {
  /** Clients of other namespaces mean this one. */
  readonly canonical: boolean;
}

/** What of an entry is sent, and why the rest is not. */
export interface Admission {
  readonly hosts: readonly AdmittedHost[];
  readonly problems: readonly string[];
}

/** The claims to one key, first the one that goes before all others. */
export type ClaimLookup = (key: string) => readonly Claim[];

/** What an entry is weighed against. */
export interface Owners {
  readonly claims: ClaimLookup;
  /** Who has addresses in a range (`rangeKey`): see RangeHolders. */
  readonly leaders: (range: string) => readonly Claim[];
  /** Names a pod of another namespace than this one that has the address in the cluster's network, be it its node's too. */
  readonly foreignPod: (ip: string, namespace: string) => string | undefined;
  readonly clusterDomain: string;
}

/** A sorted list that holds what several objects ask for. */
export class Claims {
  readonly #byKey = new Map<string, readonly Claim[]>();

  readonly get: ClaimLookup = (key) => this.#byKey.get(key) ?? [];

  add(key: string, claim: Claim): void {
    this.#byKey.set(key, [...this.get(key), claim].sort(before));
  }

  remove(key: string, claim: Claim): void {
    const left = this.get(key).filter((one) => one !== claim);
    if (left.length === 0) this.#byKey.delete(key);
    else this.#byKey.set(key, left);
  }

  get size(): number {
    return this.#byKey.size;
  }
}

export function serviceClaim(service: KubeService): Claim {
  const { namespace, name } = { namespace: namespaceOf(service), name: nameOf(service) };
  return { kind: "Service", namespace, name, created: 0, private: false };
}

/** Keys that a Service has. */
export function serviceClaimKeys(service: KubeService, clusterDomain: string, network: string): readonly string[] {
  if (service.spec?.type === "ExternalName") return [];
  return [
    hostKey(serviceHostname(service, clusterDomain)),
    ...clusterIps(service).map((ip) => addressKey(network, ip)),
  ];
}

export function entryClaim(entry: Entry): Claim {
  const { namespace, name, created, visibility } = entry;
  return { kind: "ServiceEntry", namespace, name, created, private: visibility === "Namespace" };
}

export function workloadEntryClaim(entry: KubeWorkloadEntry): Claim {
  const { namespace, name } = { namespace: namespaceOf(entry), name: nameOf(entry) };
  return { kind: "WorkloadEntry", namespace, name, created: createdOf(entry), private: false };
}

/** Keys that an entry asks for. */
export function entryClaimKeys(entry: Entry): readonly string[] {
  return [...new Set(entry.hosts.flatMap((host) => [hostKey(host.host), ...addressKeys(host)]))];
}

/** What of the entry's hosts may be sent. */
export function admit(entry: Entry, owners: Owners): Admission {
  const hosts: AdmittedHost[] = [];
  const problems: string[] = [];
  for (const host of entry.hosts) {
    const taken = hostTaken(entry, host.host, owners) ?? addressTaken(entry, host, owners);
    if (taken !== undefined) {
      problems.push(taken);
      continue;
    }
    // The rest of the host stays: a pod may come into a range at any time.
    const cidrVips = host.cidrVips.filter((range) => {
      const held = rangeHeld(entry, host.host, range, owners);
      if (held !== undefined) problems.push(held);
      return held === undefined;
    });
    hosts.push({ ...host, cidrVips, canonical: isCanonical(entry, host.host, owners.claims) });
  }
  return { hosts, problems };
}

export function hostKey(host: string): string {
  return `host ${host.toLowerCase()}`;
}

export function addressKey(network: string, ip: string): string {
  return `address ${network}/${ip}`;
}

export function rangeKey({ network, cidr }: CidrVip): string {
  return `range ${network}/${cidr.ip}/${cidr.bits}`;
}

function addressKeys({ vips, cidrVips }: EntryHost): readonly string[] {
  return [...vips.map(({ network, ip }) => addressKey(network, ip)), ...cidrVips.map(rangeKey)];
}

function hostTaken(entry: Entry, host: string, { claims, clusterDomain }: Owners): string | undefined {
  if (reachesIntoOthers(host, entry.namespace, clusterDomain)) {
    return `host "${host}" is in the domain of another namespace's Services; it is not sent`;
  }
  const all = claims(hostKey(host));
  const ofNamespace = all.find(({ namespace }) => namespace === entry.namespace);
  if (ofNamespace !== undefined && !isOf(entry, ofNamespace)) return takenBy(`host "${host}"`, ofNamespace);
  if (entry.visibility === "Namespace") return undefined;
  const owner = publicOwner(all);
  return owner === undefined || isOf(entry, owner) ? undefined : takenBy(`host "${host}"`, owner);
}

/** Of each namespace only the first counts: the others are not sent. */
function publicOwner(claims: readonly Claim[]): Claim | undefined {
  return claims.find((claim) => {
    return !claim.private && claims.find(({ namespace }) => namespace === claim.namespace) === claim;
  });
}

function isCanonical(entry: Entry, host: string, claims: ClaimLookup): boolean {
  const owner = publicOwner(claims(hostKey(host)));
  return owner !== undefined && isOf(entry, owner);
}

function addressTaken(entry: Entry, host: EntryHost, { claims, foreignPod }: Owners): string | undefined {
  for (const key of addressKeys(host)) {
    const [, address = ""] = key.split(" ");
    const shown = address.slice(address.indexOf("/") + 1);
    const owner = claims(key).find((claim) => {
      return !claim.private && (claim.kind === "Service" || entry.visibility === "Public");
    });
    if (owner !== undefined && owner.namespace !== entry.namespace)
      return takenBy(`address ${shown} of "${host.host}"`, owner);
  }
  for (const { ip } of host.vips) {
    const pod = foreignPod(ip, entry.namespace);
    if (pod !== undefined)
      return `address ${ip} of "${host.host}" is that of pod ${pod} in another namespace; it is not sent`;
  }
  return undefined;
}

/** A private entry takes nothing from what others merely say, as with single addresses. */
function rangeHeld(entry: Entry, host: string, range: CidrVip, { leaders }: Owners): string | undefined {
  const claim = entryClaim(entry);
  const holder = leaders(rangeKey(range)).find((one) => {
    if (one.namespace === entry.namespace) return false;
    return one.kind !== "WorkloadEntry" || (!claim.private && before(one, claim) < 0);
  });
  if (holder === undefined) return undefined;
  const { kind, namespace, name } = holder;
  const who = kind === "WorkloadEntry" ? `WorkloadEntry ${namespace}/${name}` : `${kind}s of namespace ${namespace}`;
  return `range ${range.cidr.ip}/${range.cidr.bits} of "${host}" holds addresses of ${who}; it is not sent`;
}

/** `*.svc.cluster.local` and everything above it, and names of another namespace's domain. */
function reachesIntoOthers(host: string, namespace: string, clusterDomain: string): boolean {
  const services = `svc.${clusterDomain.toLowerCase()}`;
  const plain = host.replace(/^\*\.?/, "");
  if (host !== plain && (services === plain || services.endsWith(`.${plain}`) || plain === "")) return true;
  if (!plain.endsWith(`.${services}`)) return false;
  const labels = plain.slice(0, -services.length - 1).split(".");
  return labels.at(-1) !== namespace;
}

function takenBy(what: string, { kind, namespace, name }: Claim): string {
  return `${what} belongs to ${kind} ${namespace}/${name}; it is not sent`;
}

function isOf(entry: Entry, { kind, namespace, name }: Claim): boolean {
  return kind === "ServiceEntry" && namespace === entry.namespace && name === entry.name;
}

/** For sorting: Kubernetes' own objects first, then by age. */
export function before(a: Claim, b: Claim): number {
  if (isKubernetes(a) !== isKubernetes(b)) return isKubernetes(a) ? -1 : 1;
  if (a.created !== b.created) return a.created - b.created;
  const [left, right] = [`${a.namespace}/${a.name} ${a.kind}`, `${b.namespace}/${b.name} ${b.kind}`];
  if (left === right) return 0;
  return left < right ? -1 : 1;
}

function isKubernetes({ kind }: Claim): boolean {
  return kind === "Pod" || kind === "Service";
}
