import { clusterIps, serviceHostname } from "./service.ts";
import { type KubeService, namespaceOf, nameOf } from "./kubernetes.ts";
import type { Entry, EntryHost } from "./service-entry.ts";

/**
 * Who has a hostname or address that several objects ask for. A ServiceEntry never takes over what another namespace has:
 * a Kubernetes Service goes before ServiceEntries, an older one before a younger one, and the loser is not sent. Whether
 * the owner is sent itself does not matter: otherwise who wins would depend on who else loses.
 */
export interface Claim {
  readonly kind: "Service" | "ServiceEntry";
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
  /** Names a pod of another namespace than this one that has the address in the cluster's network. */
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
    if (taken !== undefined) problems.push(taken);
    else hosts.push({ ...host, canonical: isCanonical(entry, host.host, owners.claims) });
  }
  return { hosts, problems };
}

export function hostKey(host: string): string {
  return `host ${host.toLowerCase()}`;
}

export function addressKey(network: string, ip: string): string {
  return `address ${network}/${ip}`;
}

function addressKeys({ vips, cidrVips }: EntryHost): readonly string[] {
  const ranges = cidrVips.map(({ network, cidr }) => `range ${network}/${cidr.ip}/${cidr.bits}`);
  return [...vips.map(({ network, ip }) => addressKey(network, ip)), ...ranges];
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

/** Kubernetes' own objects first, then by age. */
function before(a: Claim, b: Claim): number {
  if (a.kind !== b.kind) return a.kind === "Service" ? -1 : 1;
  if (a.created !== b.created) return a.created - b.created;
  const [left, right] = [`${a.namespace}/${a.name}`, `${b.namespace}/${b.name}`];
  if (left === right) return 0;
  return left < right ? -1 : 1;
}
