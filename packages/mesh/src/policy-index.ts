import type { Policy, PolicyKey, Workload } from "./model.ts";
import { policyKey } from "./model.ts";
import { type CompiledRule, type ConnectionFacts, compileRules } from "./rule-compiler.ts";
import { RuleIndex } from "./rule-index.ts";

export interface CompiledPolicy {
  readonly key: PolicyKey;
  readonly policy: Policy;
  readonly rules: readonly CompiledRule[];
}

/** Which workloads a policy change may concern. */
export type PolicyScope =
  | { readonly kind: "global" }
  | { readonly kind: "namespace"; readonly namespace: string }
  /** Workloads that name it. */
  | { readonly kind: "named"; readonly key: PolicyKey }
  /** One workload, whose list of policies changed. */
  | { readonly kind: "workload"; readonly uid: string };

/** Policies that apply to a whole namespace (or to everything), by what they do. */
export class PolicySet {
  readonly deny = new RuleIndex();
  readonly allow = new RuleIndex();
  readonly dryRunDeny = new RuleIndex();
  readonly dryRunAllow = new RuleIndex();

  indexFor(policy: Policy): RuleIndex {
    if (policy.dryRun) return policy.action === "Deny" ? this.dryRunDeny : this.dryRunAllow;
    return policy.action === "Deny" ? this.deny : this.allow;
  }

  get empty(): boolean {
    return [this.deny, this.allow, this.dryRunDeny, this.dryRunAllow].every((index) => index.policies === 0);
  }
}

/** Policies by key and by scope, compiled once when they arrive. */
export class PolicyIndex {
  readonly #byKey = new Map<PolicyKey, CompiledPolicy>();
  readonly #byNamespace = new Map<string, PolicySet>();
  readonly global = new PolicySet();

  get(key: PolicyKey): CompiledPolicy | undefined {
    return this.#byKey.get(key);
  }

  *values(): IterableIterator<Policy> {
    for (const compiled of this.#byKey.values()) yield compiled.policy;
  }

  get size(): number {
    return this.#byKey.size;
  }

  ofNamespace(namespace: string): PolicySet | undefined {
    return this.#byNamespace.get(namespace);
  }

  put(policy: Policy): Policy | undefined {
    const key = policyKey(policy);
    const previous = this.remove(key);
    const compiled = { key, policy, rules: compileRules(policy) };
    this.#byKey.set(key, compiled);
    this.#setFor(policy)?.indexFor(policy).add(key, compiled.rules);
    return previous;
  }

  remove(key: PolicyKey): Policy | undefined {
    const previous = this.#byKey.get(key)?.policy;
    if (previous === undefined) return undefined;
    this.#byKey.delete(key);
    const set = this.#setFor(previous);
    set?.indexFor(previous).remove(key);
    if (previous.scope === "Namespace" && set?.empty) this.#byNamespace.delete(previous.namespace);
    return previous;
  }

  #setFor(policy: Policy): PolicySet | undefined {
    switch (policy.scope) {
      case "Global":
        return this.global;
      case "WorkloadSelector":
        return undefined;
      case "Namespace": {
        let set = this.#byNamespace.get(policy.namespace);
        if (set === undefined) {
          set = new PolicySet();
          this.#byNamespace.set(policy.namespace, set);
        }
        return set;
      }
      default:
        return policy.scope satisfies never;
    }
  }
}

export function policyMatches(policy: CompiledPolicy, facts: ConnectionFacts): boolean {
  return policy.rules.some((rule) => rule.matches(facts));
}

/** Where a policy applies by itself, and by being named. */
export function policyScopes(policy: Policy): readonly PolicyScope[] {
  const named = { kind: "named", key: policyKey(policy) } as const;
  switch (policy.scope) {
    case "Global":
      return [{ kind: "global" }, named];
    case "Namespace":
      return [{ kind: "namespace", namespace: policy.namespace }, named];
    case "WorkloadSelector":
      return [named];
    default:
      return policy.scope satisfies never;
  }
}

/** Must connections to this workload be judged again after a change with this scope? */
export function scopeTouches(scope: PolicyScope, workload: Workload): boolean {
  switch (scope.kind) {
    case "global":
      return true;
    case "namespace":
      return workload.namespace === scope.namespace;
    case "named":
      return workload.authorizationPolicies.includes(scope.key);
    case "workload":
      return workload.uid === scope.uid;
    default:
      return scope satisfies never;
  }
}
