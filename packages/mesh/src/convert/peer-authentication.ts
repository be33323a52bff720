import type { Policy, PolicyKey } from "../model.ts";
import { policyKey } from "../model.ts";
import { type ObjectStatus, statusOf } from "./context.ts";
import { type KubePolicy, type Labels, selects } from "./kubernetes.ts";
import {
  type PeerAuthenticationRule,
  type PeerAuthenticationSettings,
  readPeerAuthentication,
} from "./policies/peer-authentication-spec.ts";
import {
  type EffectiveMtls,
  effectiveMtls,
  type Mtls,
  portPolicy,
  portPolicyName,
  staticStrictPolicy,
} from "./policies/mutual-tls.ts";

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

interface Made {
  readonly policies: ReadonlyMap<PolicyKey, Policy>;
  /** By name. */
  readonly statuses: ReadonlyMap<string, ObjectStatus>;
}

const MANAGER = "istio-ambient-ztunnel-policy";
const NO_RULES: NamespaceRules = { wide: [], selecting: [] };
const NOTHING_MADE: Made = { policies: new Map(), statuses: new Map() };

/**
 * Every PeerAuthentication of the mesh, by the level on which it counts (control-plane.md §2.8): workload, then
 * namespace, then mesh; of several on one level the oldest.
 */
export class PeerAuthentications {
  readonly #settings: PeerAuthenticationSettings;
  readonly #strict: Policy;
  readonly #strictKey: PolicyKey;
  readonly #namespaces = new Map<string, NamespaceRules>();
  /** What the rules of a namespace were made into. */
  readonly #made = new Map<string, Made>();
  #strictSent = false;

  constructor(rules: Iterable<PeerAuthenticationRule>, settings: PeerAuthenticationSettings) {
    this.#settings = settings;
    this.#strict = staticStrictPolicy(settings.rootNamespace);
    this.#strictKey = policyKey(this.#strict);
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
    const converted = [...this.#made.values()].flatMap(({ policies }) => [...policies.values()]);
    return this.#strictSent ? [...converted, this.#strict] : converted;
  }

  statuses(): readonly ObjectStatus[] {
    return [...this.#made.values()].flatMap(({ statuses }) => [...statuses.values()]);
  }

  /** The policy that a workload must name because of them; undefined: plaintext is welcome. */
  attached(namespace: string, labels: Labels | undefined): PolicyKey | undefined {
    const rule = this.#workloadRule(namespace, labels);
    const { base, exceptions } = effectiveMtls(rule, this.#parent(namespace));
    if (rule !== undefined && exceptions.length > 0) return `${namespace}/${portPolicyName(rule)}`;
    return base === "strict" ? this.#strictKey : undefined;
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
    const puts: Policy[] = [];
    const removes: PolicyKey[] = [];
    const statuses: ObjectStatus[] = [];
    for (const namespace of new Set(namespaces)) {
      const before = this.#made.get(namespace) ?? NOTHING_MADE;
      const after = this.#make(namespace);
      if (after === undefined) this.#made.delete(namespace);
      else this.#made.set(namespace, after);
      const { policies = NOTHING_MADE.policies, statuses: said = NOTHING_MADE.statuses } = after ?? {};
      puts.push(...different(before.policies, policies));
      removes.push(...[...before.policies.keys()].filter((key) => !policies.has(key)));
      statuses.push(...different(before.statuses, said));
    }
    const wanted = this.#namespaces.size > 0;
    if (wanted && !this.#strictSent) puts.push(this.#strict);
    if (!wanted && this.#strictSent) removes.push(this.#strictKey);
    this.#strictSent = wanted;
    return { puts, removes: removes.sort(), statuses };
  }

  #make(namespace: string): Made | undefined {
    const rules = this.#namespaces.get(namespace);
    if (rules === undefined) return undefined;
    const { wide, selecting } = rules;
    const parent = this.#parent(namespace);
    // In the root namespace a selector has no meaning, and its ports were not read.
    const policies = selecting.flatMap((rule) => portPolicy(rule, parent) ?? []);
    const conditions = [...wide, ...selecting].map((rule) => conditionOf(rule, wide[0], this.#settings.rootNamespace));
    return {
      policies: new Map(policies.map((policy) => [policyKey(policy), policy])),
      statuses: new Map(conditions.map((status) => [status.name, status])),
    };
  }
}

function different<T>(before: ReadonlyMap<string, T>, after: ReadonlyMap<string, T>): readonly T[] {
  return [...after].flatMap(([key, value]) =>
    JSON.stringify(before.get(key)) === JSON.stringify(value) ? [] : [value],
  );
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
