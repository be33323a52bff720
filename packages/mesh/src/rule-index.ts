import type { Cidr } from "@tulle/base";
import type { PolicyKey } from "./model.ts";
import { PrefixTable } from "./prefix-table.ts";
import type { CompiledRule, ConnectionFacts } from "./rule-compiler.ts";

interface IndexedRule {
  readonly policy: PolicyKey;
  readonly rule: CompiledRule;
}

/**
 * Rules of many policies, found by what they ask for: a connection is only held against rules whose anchor it has, and
 * against those that have none. Ten thousand policies that name one principal each cost one lookup.
 */
export class RuleIndex {
  readonly #byText = new Map<string, Set<IndexedRule>>();
  readonly #byPort = new Map<number, Set<IndexedRule>>();
  readonly #bySource = new PrefixTable<IndexedRule>();
  readonly #byPolicy = new Map<PolicyKey, readonly IndexedRule[]>();

  /** Policies here, those without any rule included. */
  get policies(): number {
    return this.#byPolicy.size;
  }

  /** The policy must not be here already. */
  add(policy: PolicyKey, rules: readonly CompiledRule[]): void {
    const indexed = rules.map((rule) => ({ policy, rule }));
    this.#byPolicy.set(policy, indexed);
    for (const rule of indexed) this.#place(rule, addTo, (cidr) => this.#bySource.add(cidr, rule));
  }

  remove(policy: PolicyKey): void {
    for (const rule of this.#byPolicy.get(policy) ?? []) {
      this.#place(rule, removeFrom, (cidr) => this.#bySource.remove(cidr, rule));
    }
    this.#byPolicy.delete(policy);
  }

  /** A policy with a rule that matches. */
  find(facts: ConnectionFacts): PolicyKey | undefined {
    let found: PolicyKey | undefined;
    this.#candidates(facts, (candidate) => {
      if (!candidate.rule.matches(facts)) return false;
      found = candidate.policy;
      return true;
    });
    return found;
  }

  /** Every policy with a rule that matches, each once. */
  findAll(facts: ConnectionFacts): ReadonlySet<PolicyKey> {
    const found = new Set<PolicyKey>();
    this.#candidates(facts, (candidate) => {
      if (!found.has(candidate.policy) && candidate.rule.matches(facts)) found.add(candidate.policy);
      return false;
    });
    return found;
  }

  /** `visit` returns true to stop. */
  #candidates(facts: ConnectionFacts, visit: (rule: IndexedRule) => boolean): void {
    const texts = [ANY, namespaceKey(facts.namespace)];
    if (facts.principal !== undefined) texts.push(principalKey(facts.principal));
    if (facts.account !== undefined) texts.push(accountKey(facts.account));
    for (const text of texts) for (const rule of this.#byText.get(text) ?? []) if (visit(rule)) return;
    for (const rule of this.#byPort.get(facts.port) ?? []) if (visit(rule)) return;
    let stopped = false;
    this.#bySource.visit(facts.sourceIp, (rule) => {
      stopped ||= visit(rule);
    });
  }

  #place(
    indexed: IndexedRule,
    change: <K>(index: Map<K, Set<IndexedRule>>, key: K, rule: IndexedRule) => void,
    changeSource: (cidr: Cidr) => void,
  ): void {
    const { anchor } = indexed.rule;
    switch (anchor.kind) {
      case "principal":
        for (const value of anchor.values) change(this.#byText, principalKey(value), indexed);
        break;
      case "account":
        for (const value of anchor.values) change(this.#byText, accountKey(value), indexed);
        break;
      case "namespace":
        for (const value of anchor.values) change(this.#byText, namespaceKey(value), indexed);
        break;
      case "port":
        for (const value of anchor.values) change(this.#byPort, value, indexed);
        break;
      case "source":
        for (const cidr of anchor.values) changeSource(cidr);
        break;
      case "any":
        change(this.#byText, ANY, indexed);
        break;
      default:
        anchor satisfies never;
    }
  }
}

/** Rules that no value can find. */
const ANY = "*";
const principalKey = (principal: string) => `p:${principal}`;
const accountKey = (account: string) => `a:${account}`;
const namespaceKey = (namespace: string) => `n:${namespace}`;

function addTo<K>(index: Map<K, Set<IndexedRule>>, key: K, rule: IndexedRule): void {
  const rules = index.get(key);
  if (rules === undefined) index.set(key, new Set([rule]));
  else rules.add(rule);
}

function removeFrom<K>(index: Map<K, Set<IndexedRule>>, key: K, rule: IndexedRule): void {
  const rules = index.get(key);
  rules?.delete(rule);
  if (rules?.size === 0) index.delete(key);
}
