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
  serviceClaim,
  serviceClaimKeys,
} from "./ownership.ts";
import { same } from "./same.ts";
import type { Entry, UnreadableEntry } from "./service-entry.ts";

interface Claimed {
  readonly claim: Claim;
  readonly keys: readonly string[];
}

const NOTHING: Admission = { hosts: [], problems: [] };
const NO_MEMBERS: ReadonlyMap<string, EntryMembers> = new Map();

/** Every ServiceEntry, what all of them and the Services ask for, and what of it each entry has. */
export class EntryRegistry {
  readonly #claims = new Claims();
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
    const claimed = service === undefined || keys.length === 0 ? undefined : { claim: serviceClaim(service), keys };
    return this.#claim(`Service ${key}`, claimed);
  }

  /** undefined: it is gone. Returns the entries that are to be judged again: itself and those that want the same. */
  setEntry(key: string, entry: Entry | UnreadableEntry | undefined): readonly string[] {
    if (entry === undefined) this.#entries.delete(key);
    else this.#entries.set(key, entry);
    const readable = entry !== undefined && "hosts" in entry ? entry : undefined;
    const claimed = readable && { claim: entryClaim(readable), keys: entryClaimKeys(readable) };
    return [key, ...this.#claim(`ServiceEntry ${key}`, claimed)];
  }

  get(key: string): Entry | UnreadableEntry | undefined {
    return this.#entries.get(key);
  }

  /** Entries that want this address for themselves. */
  wanting(network: string, ip: string): readonly string[] {
    return entriesOf(this.#claims.get(addressKey(network, ip)));
  }

  /** Judges an entry. Returns what it selects and selected before, if that is different now. */
  judge(key: string, owners: Omit<Owners, "claims">): readonly EntryMembers[] {
    const slash = key.indexOf("/");
    const [namespace, name] = [key.slice(0, slash), key.slice(slash + 1)];
    const entry = this.#entries.get(key);
    const readable = entry !== undefined && "hosts" in entry ? entry : undefined;
    const admission = readable === undefined ? NOTHING : admit(readable, { ...owners, claims: this.#claims.get });
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
    return [...touched].flatMap((key) => entriesOf(this.#claims.get(key)));
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

function entriesOf(claims: readonly Claim[]): readonly string[] {
  return claims.filter(({ kind }) => kind === "ServiceEntry").map(({ namespace, name }) => `${namespace}/${name}`);
}

function membersOf(entry: Entry, { hosts }: Admission): EntryMembers | undefined {
  const { namespace, selector, ports } = entry;
  if (Object.keys(selector).length === 0 || hosts.length === 0) return undefined;
  return { namespace, selector, ports, hosts: hosts.map(({ host }) => host) };
}
