import type { Policy, PolicyKey } from "../model.ts";
import { policyKey } from "../model.ts";
import { type ObjectStatus, statusOf } from "./context.ts";
import { type KubePolicy, type Labels, selects } from "./kubernetes.ts";
import {
  type PeerAuthenticationRule,
  type PeerAuthenticationSettings,
  readPeerAuthentication,
} from "./policies/peer-authentication-spec.ts";
import { type EffectiveMtls, effectiveMtls, type Mtls, portPolicy, staticStrictPolicy } from "./policies/mutual-tls.ts";

export { type EffectiveMtls, type Mtls, refusesPlaintext, staticStrictPolicy } from "./policies/mutual-tls.ts";
export { type PeerAuthenticationRule, readPeerAuthentication } from "./policies/peer-authentication-spec.ts";

/** What one PeerAuthentication that came, changed or went did to the others. */
export interface PeerAuthenticationChange {
  /** Whose `attached` or `effectiveMode` may be another now: workloads of the whole mesh, of one namespace, or nobody's. */
  readonly affected: "all" | "none" | { readonly namespace: string };
  /** Converted policies that are new or different. */
  readonly puts: readonly Policy[];
  readonly removes: readonly PolicyKey[];
  /** Of policies whose conditions or generation changed; nothing of the one that is gone. */
  readonly statuses: readonly ObjectStatus[];
}

/** Policies with and without selector of one namespace, each oldest first. */
interface NamespaceRules {
  readonly wide: readonly PeerAuthenticationRule[];
  readonly selecting: readonly PeerAuthenticationRule[];
}

const MANAGER = "istio-ambient-ztunnel-policy";
const NO_RULES: NamespaceRules = { wide: [], selecting: [] };

/**
 * Every PeerAuthentication of the mesh, by the level on which it counts (control-plane.md §2.8): workload, then
 * namespace, then mesh; of several on one level the oldest.
 */
export class PeerAuthentications {
  readonly #settings: PeerAuthenticationSettings;
  readonly #namespaces = new Map<string, NamespaceRules>();
  readonly #policies = new Map<PolicyKey, { readonly policy: Policy; readonly text: string }>();
  readonly #statuses = new Map<string, { readonly status: ObjectStatus; readonly text: string }>();

  constructor(rules: Iterable<PeerAuthenticationRule>, settings: PeerAuthenticationSettings) {
    this.#settings = settings;
    for (const [namespace, own] of Map.groupBy(rules, (rule) => rule.namespace)) this.#setRules(namespace, own);
    this.#refresh([...this.#namespaces.keys()]);
  }

  put(from: KubePolicy): PeerAuthenticationChange {
    const rule = readPeerAuthentication(from, this.#settings);
    return this.#replace(rule.namespace, rule.name, [rule]);
  }

  remove(namespace: string, name: string): PeerAuthenticationChange {
    return this.#replace(namespace, name, []);
  }

  /** Policies that stand for them: the shared STRICT one (while there is any) and one for each with port exceptions. */
  policies(): readonly Policy[] {
    return [...this.#policies.values()].map(({ policy }) => policy);
  }

  statuses(): readonly ObjectStatus[] {
    return [...this.#statuses.values()].map(({ status }) => status);
  }

  /** The policy that a workload must name because of them; undefined: plaintext is welcome. */
  attached(namespace: string, labels: Labels | undefined): PolicyKey | undefined {
    const rule = this.#workloadRule(namespace, labels);
    const parent = this.#parent(namespace);
    const converted = rule && portPolicy(rule, parent);
    if (converted !== undefined) return policyKey(converted);
    const { base } = effectiveMtls(rule, parent);
    return base === "strict" ? policyKey(staticStrictPolicy(this.#settings.rootNamespace)) : undefined;
  }

  /** Where a pod with these labels refuses plaintext. */
  effectiveMode(namespace: string, labels: Labels | undefined): EffectiveMtls {
    return effectiveMtls(this.#workloadRule(namespace, labels), this.#parent(namespace));
  }

  #workloadRule(namespace: string, labels: Labels | undefined): PeerAuthenticationRule | undefined {
    // In the root namespace a selector has no meaning.
    if (namespace === this.#settings.rootNamespace) return undefined;
    const { selecting } = this.#namespaces.get(namespace) ?? NO_RULES;
    return selecting.find((rule) => rule.selector !== undefined && selects(rule.selector, labels));
  }

  #parent(namespace: string): Mtls {
    return this.#namespaces.get(namespace)?.wide[0]?.mode ?? this.#meshMode() ?? "permissive";
  }

  #meshMode(): Mtls | undefined {
    return this.#namespaces.get(this.#settings.rootNamespace)?.wide[0]?.mode;
  }

  #replace(namespace: string, name: string, by: readonly PeerAuthenticationRule[]): PeerAuthenticationChange {
    const before = this.#namespaces.get(namespace) ?? NO_RULES;
    const meshMode = this.#meshMode();
    const [known] = [...before.wide, ...before.selecting].filter((rule) => rule.name === name);
    const others = [...before.wide, ...before.selecting].filter((rule) => rule.name !== name);
    this.#setRules(namespace, [...others, ...by]);
    const mesh = this.#meshMode() !== meshMode;
    const refreshed = this.#refresh(mesh ? [...this.#namespaces.keys(), namespace] : [namespace]);
    const [rule] = by;
    const same = JSON.stringify(known && inForce(known)) === JSON.stringify(rule && inForce(rule));
    const namespaceOnly = same ? "none" : { namespace };
    return { ...refreshed, affected: mesh ? "all" : namespaceOnly };
  }

  #setRules(namespace: string, rules: readonly PeerAuthenticationRule[]): void {
    if (rules.length === 0) {
      this.#namespaces.delete(namespace);
      return;
    }
    const sorted = rules.toSorted((a, b) => a.created - b.created || (a.name < b.name ? -1 : 1));
    this.#namespaces.set(namespace, {
      wide: sorted.filter(({ selector }) => selector === undefined),
      selecting: sorted.filter(({ selector }) => selector !== undefined),
    });
  }

  /** Makes policies and statuses of these namespaces anew, and tells which came out different. */
  #refresh(namespaces: readonly string[]): Omit<PeerAuthenticationChange, "affected"> {
    const { rootNamespace } = this.#settings;
    const fixed = policyKey(staticStrictPolicy(rootNamespace));
    const stale = new Set(namespaces);
    const policies: Policy[] = [];
    const statuses: ObjectStatus[] = [];
    for (const namespace of stale) {
      const { wide, selecting } = this.#namespaces.get(namespace) ?? NO_RULES;
      const parent = this.#parent(namespace);
      policies.push(...selecting.flatMap((rule) => portPolicy(rule, parent) ?? []));
      statuses.push(...[...wide, ...selecting].map((rule) => conditionOf(rule, wide[0], rootNamespace)));
    }
    const gone = [...this.#policies].filter(([key, { policy }]) => key !== fixed && stale.has(policy.namespace));
    const removed = new Set(gone.map(([key]) => key));
    if (this.#namespaces.size > 0) policies.push(staticStrictPolicy(rootNamespace));
    else if (this.#policies.has(fixed)) removed.add(fixed);
    const puts = policies.filter((policy) => {
      const [key, text] = [policyKey(policy), JSON.stringify(policy)];
      removed.delete(key);
      if (this.#policies.get(key)?.text === text) return false;
      this.#policies.set(key, { policy, text });
      return true;
    });
    for (const key of removed) this.#policies.delete(key);
    return { puts, removes: [...removed].sort(), statuses: this.#refreshStatuses(stale, statuses) };
  }

  #refreshStatuses(namespaces: ReadonlySet<string>, statuses: readonly ObjectStatus[]): readonly ObjectStatus[] {
    const gone = new Set(
      [...this.#statuses].filter(([, one]) => namespaces.has(one.status.namespace)).map(([id]) => id),
    );
    const changed = statuses.filter((status) => {
      const [id, text] = [`${status.namespace}/${status.name}`, JSON.stringify(status)];
      gone.delete(id);
      if (this.#statuses.get(id)?.text === text) return false;
      this.#statuses.set(id, { status, text });
      return true;
    });
    for (const id of gone) this.#statuses.delete(id);
    return changed;
  }
}

/** What of a policy decides about connections. */
function inForce(rule: PeerAuthenticationRule): unknown {
  return [rule.created, rule.selector, rule.mode, [...rule.ports]];
}

function conditionOf(
  rule: PeerAuthenticationRule,
  oldest: PeerAuthenticationRule | undefined,
  rootNamespace: string,
): ObjectStatus {
  const object = { metadata: { namespace: rule.namespace, name: rule.name, generation: rule.generation } };
  const say = (status: "True" | "False", reason: string, message: string) =>
    statusOf("PeerAuthentication", object, MANAGER, [{ type: "ZtunnelAccepted", status, reason, message }]);
  const level = rule.namespace === rootNamespace ? "mesh" : "namespace";
  if (rule.selector !== undefined && level === "mesh") {
    return say("False", "NoEffect", `a selector has no meaning in ${rootNamespace}: move the policy to its workloads`);
  }
  if (rule.selector === undefined && oldest !== undefined && oldest !== rule) {
    const message = `${oldest.namespace}/${oldest.name} is older and holds for the ${level}: remove one of them`;
    return say("False", "Superseded", message);
  }
  if (rule.problems.length > 0) {
    return say("False", "Invalid", `cannot be read (${rule.problems.join(", ")}): it counts as STRICT there`);
  }
  if (rule.notes.length > 0) return say("True", "UnsupportedValue", `attached to ztunnel; ${rule.notes.join("; ")}`);
  return say("True", "Accepted", "attached to ztunnel");
}
