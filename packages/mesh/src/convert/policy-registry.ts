import type { Policy, PolicyKey } from "../model.ts";
import { policyKey } from "../model.ts";
import { convertAuthorizationPolicy, type ConvertedAuthorization } from "./authorization-policy.ts";
import type { MeshSettings } from "./context.ts";
import { byKey, keyOf, type KubePolicy, type Labels, selects } from "./kubernetes.ts";
import { type PeerAuthenticationChange, PeerAuthentications } from "./peer-authentication.ts";
import { same } from "./same.ts";

/** Workloads whose list of policies may be another now. */
export interface AffectedWorkloads {
  /** undefined: of every namespace. */
  readonly namespace: string | undefined;
  /** undefined: all of them. */
  readonly selector: Labels | undefined;
}

interface SelectedPolicy {
  readonly key: PolicyKey;
  readonly selector: Labels;
}

const NONE: readonly SelectedPolicy[] = [];

/** Every policy of the mesh, and which of them a workload names. */
export class PolicyRegistry {
  readonly #settings: MeshSettings;
  readonly #converted = new Map<string, ConvertedAuthorization>();
  /** Sorted by key. */
  readonly #selected = new Map<string, readonly SelectedPolicy[]>();
  readonly #peers: PeerAuthentications;

  constructor(settings: MeshSettings, authorizations: Iterable<KubePolicy> = [], peers: Iterable<KubePolicy> = []) {
    this.#settings = settings;
    this.#peers = new PeerAuthentications([], settings);
    for (const policy of authorizations) this.setAuthorization(keyOf(policy), policy);
    for (const policy of peers) this.#peers.put(policy);
  }

  /** undefined: it is gone. */
  setAuthorization(key: string, from: KubePolicy | undefined): readonly AffectedWorkloads[] {
    const namespace = key.slice(0, key.indexOf("/"));
    const before = selectedOf(this.#converted.get(key));
    const converted = from && convertAuthorizationPolicy(from, this.#settings);
    if (converted === undefined) this.#converted.delete(key);
    else this.#converted.set(key, converted);
    const after = selectedOf(converted);
    if (same(before, after)) return [];
    const others = (this.#selected.get(namespace) ?? NONE).filter((one) => one.key !== (before ?? after)?.key);
    const all = after === undefined ? others : [...others, after].sort(byKey((one) => one.key));
    if (all.length === 0) this.#selected.delete(namespace);
    else this.#selected.set(namespace, all);
    const where = namespace === this.#settings.rootNamespace ? undefined : namespace;
    return [before, after].flatMap((one) => (one === undefined ? [] : { namespace: where, selector: one.selector }));
  }

  authorization(key: string): ConvertedAuthorization | undefined {
    return this.#converted.get(key);
  }

  /** undefined: it is gone. */
  setPeerAuthentication(key: string, from: KubePolicy | undefined): PeerAuthenticationChange {
    if (from !== undefined) return this.#peers.put(from);
    const slash = key.indexOf("/");
    return this.#peers.remove(key.slice(0, slash), key.slice(slash + 1));
  }

  /** Policies that stand for PeerAuthentications. */
  peerPolicies(): readonly Policy[] {
    return this.#peers.policies();
  }

  peerStatuses(): ReturnType<PeerAuthentications["statuses"]> {
    return this.#peers.statuses();
  }

  /** What a workload names: policies of its own or the root namespace that select it, by key; then mutual TLS. */
  attached(namespace: string, labels: Labels | undefined): readonly PolicyKey[] {
    const { rootNamespace } = this.#settings;
    const own = this.#selected.get(namespace) ?? NONE;
    const root = namespace === rootNamespace ? NONE : (this.#selected.get(rootNamespace) ?? NONE);
    const keys = [...own, ...root].filter(({ selector }) => selects(selector, labels)).map(({ key }) => key);
    if (root.length > 0) keys.sort();
    const mutualTls = this.#peers.attached(namespace, labels);
    return mutualTls === undefined ? keys : [...keys, mutualTls];
  }
}

export function affectedBy({ affected }: PeerAuthenticationChange): readonly AffectedWorkloads[] {
  if (affected === "none") return [];
  return [{ namespace: affected === "all" ? undefined : affected.namespace, selector: undefined }];
}

function selectedOf(converted: ConvertedAuthorization | undefined): SelectedPolicy | undefined {
  const { policy, selector } = converted ?? {};
  return policy === undefined || selector === undefined ? undefined : { key: policyKey(policy), selector };
}
