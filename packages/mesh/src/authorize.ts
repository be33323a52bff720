import type { Identity, SocketAddress } from "@tulle/base";
import { type Policy, type PolicyKey, policyKey, type Workload } from "./model.ts";
import { type CompiledPolicy, policyMatches } from "./policy-index.ts";
import { type ConnectionFacts, factsOf } from "./rule-compiler.ts";
import type { MeshState } from "./state.ts";

export interface AuthorizationQuery {
  /** From the verified certificate; undefined for plaintext. */
  readonly identity: Identity | undefined;
  /** The TCP peer. */
  readonly source: SocketAddress;
  /** The local pod's address and the final port on it. */
  readonly destination: SocketAddress;
  /** The local workload as it is known now. */
  readonly local: Workload;
}

/** A dry-run policy that matched: it is only reported. */
export interface DryRunMatch {
  readonly policy: PolicyKey;
  readonly action: "Allow" | "Deny";
}

export type Verdict =
  /** `policy`: the one that allowed; undefined when nothing restricts the workload. */
  | { readonly kind: "allowed"; readonly policy: PolicyKey | undefined; readonly dryRun: readonly DryRunMatch[] }
  /** `policy`: the one that denied; undefined when none of the ALLOW policies matched. `reason`: text of §4.3. */
  | {
      readonly kind: "denied";
      readonly policy: PolicyKey | undefined;
      readonly reason: string;
      readonly dryRun: readonly DryRunMatch[];
    }
  /**
   * Policies that the workload names are not there (yet). A new connection waits for them, at most 5 s, and is then
   * denied with `reason`; an existing one is not cut for it. A DENY that is there has been applied already.
   */
  | {
      readonly kind: "wait";
      readonly missing: readonly PolicyKey[];
      readonly reason: string;
      readonly dryRun: readonly DryRunMatch[];
    };

const NO_MATCHES: readonly DryRunMatch[] = [];

/** May this connection go on (§4.3)? The caller prefixes a denial's reason with the text of §9.6. */
export function authorize(state: MeshState, query: AuthorizationQuery): Verdict {
  const { local } = query;
  const facts = factsOf(query.identity, query.source.ip, query.destination.ip, query.destination.port);
  if (facts === undefined) {
    return { kind: "denied", policy: undefined, reason: "unreadable address", dryRun: NO_MATCHES };
  }
  const sets = [state.policies.global, state.policies.ofNamespace(local.namespace)];
  const named: CompiledPolicy[] = [];
  const missing: PolicyKey[] = [];
  for (const key of local.authorizationPolicies) {
    const policy = state.policies.get(key);
    if (policy === undefined) missing.push(key);
    else named.push(policy);
  }
  const dryRun = dryRunMatches(state, local, named, facts);

  for (const set of sets) {
    const policy = set?.deny.find(facts);
    if (policy !== undefined) return denied(policy, dryRun);
  }
  for (const policy of named) {
    if (isEnforced(policy, "Deny") && policyMatches(policy, facts)) return denied(policy.key, dryRun);
  }
  if (missing.length > 0) {
    const reason = `policy is named by the workload but unknown: ${missing.join(", ")}`;
    return { kind: "wait", missing, reason, dryRun };
  }
  let restricted = false;
  for (const set of sets) {
    if (set === undefined || set.allow.policies === 0) continue;
    restricted = true;
    const policy = set.allow.find(facts);
    if (policy !== undefined) return { kind: "allowed", policy, dryRun };
  }
  for (const policy of named) {
    if (!isEnforced(policy, "Allow")) continue;
    restricted = true;
    if (policyMatches(policy, facts)) return { kind: "allowed", policy: policy.key, dryRun };
  }
  if (!restricted) return { kind: "allowed", policy: undefined, dryRun };
  return { kind: "denied", policy: undefined, reason: "allow policies exist, but none allowed", dryRun };
}

/** A policy that holds for a workload. */
export interface ApplicablePolicy {
  readonly key: PolicyKey;
  readonly action: "Allow" | "Deny";
  readonly dryRun: boolean;
}

/** Everything that is asked about connections to a workload, by key. For people, not for the data path. */
export function applicablePolicies(
  state: MeshState,
  workload: Workload,
): { readonly present: readonly ApplicablePolicy[]; readonly missing: readonly PolicyKey[] } {
  const found = new Map<PolicyKey, ApplicablePolicy>();
  const add = (policy: Policy) => {
    const key = policyKey(policy);
    found.set(key, { key, action: policy.action, dryRun: policy.dryRun });
  };
  for (const policy of state.allPolicies()) {
    if (policy.scope === "Global" || (policy.scope === "Namespace" && policy.namespace === workload.namespace))
      add(policy);
  }
  const missing: PolicyKey[] = [];
  for (const key of workload.authorizationPolicies) {
    const policy = state.policy(key);
    if (policy === undefined) missing.push(key);
    else add(policy);
  }
  return { present: [...found.values()].sort((a, b) => (a.key < b.key ? -1 : 1)), missing };
}

function denied(policy: PolicyKey, dryRun: readonly DryRunMatch[]): Verdict {
  return { kind: "denied", policy, reason: `explicitly denied by: ${policy}`, dryRun };
}

function isEnforced(policy: CompiledPolicy, action: "Allow" | "Deny"): boolean {
  return policy.policy.action === action && !policy.policy.dryRun;
}

function dryRunMatches(
  state: MeshState,
  local: Workload,
  named: readonly CompiledPolicy[],
  facts: ConnectionFacts,
): readonly DryRunMatch[] {
  const found = new Map<PolicyKey, DryRunMatch>();
  for (const set of [state.policies.global, state.policies.ofNamespace(local.namespace)]) {
    if (set === undefined) continue;
    if (set.dryRunDeny.policies > 0) {
      for (const policy of set.dryRunDeny.findAll(facts)) found.set(policy, { policy, action: "Deny" });
    }
    if (set.dryRunAllow.policies > 0) {
      for (const policy of set.dryRunAllow.findAll(facts)) found.set(policy, { policy, action: "Allow" });
    }
  }
  for (const { key, policy, rules } of named) {
    if (policy.dryRun && rules.some((rule) => rule.matches(facts)))
      found.set(key, { policy: key, action: policy.action });
  }
  return found.size === 0 ? NO_MATCHES : [...found.values()];
}
