import { type Cidr, type Identity, ipToBytes } from "@tulle/base";
import type { Policy, PolicyMatch, ServiceAccountMatch, StringMatch } from "./model.ts";

/** A connection as rules see it. Built once per decision by `factsOf`. */
export interface ConnectionFacts {
  /** `td/ns/<ns>/sa/<sa>`; undefined for plaintext. */
  readonly principal: string | undefined;
  /** Empty for plaintext. */
  readonly namespace: string;
  /** `<namespace>/<serviceAccount>`; undefined for plaintext. */
  readonly account: string | undefined;
  readonly sourceIp: string;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly port: number;
}

export type Condition = (facts: ConnectionFacts) => boolean;

/**
 * What must be true of every connection that a rule matches, as values an index can look up: at least one of these.
 * `any` when nothing of the kind is known.
 */
export type Anchor =
  | { readonly kind: "principal" | "account" | "namespace"; readonly values: readonly string[] }
  | { readonly kind: "port"; readonly values: readonly number[] }
  | { readonly kind: "source"; readonly values: readonly Cidr[] }
  | { readonly kind: "any" };

export interface CompiledRule {
  readonly matches: Condition;
  readonly anchor: Anchor;
}

/** A rule with more alternatives than this is not worth that many index entries; it is tried on every connection. */
const MAX_ANCHOR_VALUES = 256;

/** Undefined when an address is unreadable: no rule can judge such a connection. */
export function factsOf(
  identity: Identity | undefined,
  sourceIp: string,
  destinationIp: string,
  port: number,
): ConnectionFacts | undefined {
  const source = ipToBytes(sourceIp);
  const destination = ipToBytes(destinationIp);
  if (source === undefined || destination === undefined) return undefined;
  return {
    principal:
      identity === undefined
        ? undefined
        : `${identity.trustDomain}/ns/${identity.namespace}/sa/${identity.serviceAccount}`,
    namespace: identity?.namespace ?? "",
    account: identity === undefined ? undefined : `${identity.namespace}/${identity.serviceAccount}`,
    sourceIp,
    source,
    destination,
    port,
  };
}

/** The rules of a policy as closures (§4.3). A policy without rules gives none: it matches nothing. */
export function compileRules(policy: Policy): readonly CompiledRule[] {
  return policy.rules.map((clauses) => {
    const conditions = clauses.filter((matches) => matches.length > 0).map(compileClause);
    return { matches: all(conditions), anchor: anchorOf(clauses) };
  });
}

/** Matches are alternatives; one without any condition never matches. An empty list was dropped by the caller. */
function compileClause(matches: readonly PolicyMatch[]): Condition {
  const alternatives = matches.map(compileMatch).filter((match) => match !== undefined);
  const [only, ...more] = alternatives;
  if (only === undefined) return () => false;
  return more.length === 0 ? only : (facts) => alternatives.some((match) => match(facts));
}

function compileMatch(match: PolicyMatch): Condition | undefined {
  const conditions: Condition[] = [];
  const add = (value: Condition | undefined, negated: Condition | undefined) => {
    if (value !== undefined) conditions.push(value);
    if (negated !== undefined) conditions.push((facts) => !negated(facts));
  };
  add(ports(match.destinationPorts), ports(match.notDestinationPorts));
  add(namespaces(match.namespaces), namespaces(match.notNamespaces));
  add(accounts(match.serviceAccounts), accounts(match.notServiceAccounts));
  add(principals(match.principals), principals(match.notPrincipals));
  add(ranges(match.sourceIps, "source"), ranges(match.notSourceIps, "source"));
  add(ranges(match.destinationIps, "destination"), ranges(match.notDestinationIps, "destination"));
  return conditions.length === 0 ? undefined : all(conditions);
}

function all(conditions: readonly Condition[]): Condition {
  const [first, second, ...more] = conditions;
  if (first === undefined) return () => true;
  if (second === undefined) return first;
  if (more.length === 0) return (facts) => first(facts) && second(facts);
  return (facts) => conditions.every((condition) => condition(facts));
}

function ports(values: readonly number[]): Condition | undefined {
  const [only, ...more] = values;
  if (only === undefined) return undefined;
  if (more.length === 0) return (facts) => facts.port === only;
  const set = new Set(values);
  return (facts) => set.has(facts.port);
}

/** Plaintext has the empty namespace here, so that exact, prefix and suffix "" hold for it. */
function namespaces(values: readonly StringMatch[]): Condition | undefined {
  if (values.length === 0) return undefined;
  const test = strings(values);
  return (facts) => test(facts.namespace);
}

/** Plaintext has no principal: no value holds for it, not even an empty prefix. */
function principals(values: readonly StringMatch[]): Condition | undefined {
  if (values.length === 0) return undefined;
  const test = strings(values);
  return (facts) => facts.principal !== undefined && test(facts.principal);
}

function accounts(values: readonly ServiceAccountMatch[]): Condition | undefined {
  if (values.length === 0) return undefined;
  const set = new Set(values.map(accountKey));
  return (facts) => facts.account !== undefined && set.has(facts.account);
}

function strings(values: readonly StringMatch[]): (text: string) => boolean {
  const [only, ...more] = values;
  if (only !== undefined && more.length === 0) return stringTest(only);
  const exact = new Set<string>();
  const others: ((text: string) => boolean)[] = [];
  for (const match of values) {
    if (match.kind === "exact") exact.add(match.value);
    else others.push(stringTest(match));
  }
  return (text) => exact.has(text) || others.some((test) => test(text));
}

function stringTest(match: StringMatch): (text: string) => boolean {
  switch (match.kind) {
    case "exact":
      return (text) => text === match.value;
    case "prefix":
      return (text) => text.startsWith(match.value);
    case "suffix":
      return (text) => text.endsWith(match.value);
    case "presence":
      return (text) => text !== "";
    default:
      return match satisfies never;
  }
}

function ranges(values: readonly Cidr[], side: "source" | "destination"): Condition | undefined {
  if (values.length === 0) return undefined;
  return (facts) => values.some((cidr) => contains(cidr, facts[side]));
}

/** Families never mix: `::/0` does not hold an IPv4 address. */
function contains(cidr: Cidr, bytes: Uint8Array): boolean {
  if (bytes.length !== cidr.bytes.length) return false;
  const whole = cidr.bits >> 3;
  for (let i = 0; i < whole; i++) if (bytes[i] !== cidr.bytes[i]) return false;
  const rest = cidr.bits & 7;
  if (rest === 0) return true;
  const mask = 0xff & (0xff << (8 - rest));
  return ((bytes[whole] ?? 0) & mask) === ((cidr.bytes[whole] ?? 0) & mask);
}

/** The narrowest thing known about what the rule matches: any one of its clauses is a necessary condition. */
function anchorOf(clauses: readonly (readonly PolicyMatch[])[]): Anchor {
  for (const kind of ["principal", "account", "namespace", "source", "port"] as const) {
    for (const matches of clauses) {
      const anchor = matches.length === 0 ? undefined : clauseAnchor(kind, matches);
      if (anchor !== undefined) return anchor;
    }
  }
  return { kind: "any" };
}

function clauseAnchor(kind: Exclude<Anchor["kind"], "any">, matches: readonly PolicyMatch[]): Anchor | undefined {
  switch (kind) {
    case "principal":
      return limited(kind, matches, (match) => exactValues(match.principals));
    case "namespace":
      return limited(kind, matches, (match) => exactValues(match.namespaces));
    case "account":
      return limited(kind, matches, (match) => match.serviceAccounts.map(accountKey));
    case "port": {
      const values = gather(matches, (match) => match.destinationPorts);
      return values && { kind, values };
    }
    case "source": {
      const values = gather(matches, (match) => match.sourceIps);
      return values && { kind, values };
    }
    default:
      return kind satisfies never;
  }
}

function limited(
  kind: "principal" | "account" | "namespace",
  matches: readonly PolicyMatch[],
  pick: (match: PolicyMatch) => readonly string[] | undefined,
): Anchor | undefined {
  const values = gather(matches, pick);
  return values && { kind, values };
}

/** The union over all matches; undefined when one of them does not restrict the field, or there are too many. */
function gather<T>(
  matches: readonly PolicyMatch[],
  pick: (match: PolicyMatch) => readonly T[] | undefined,
): readonly T[] | undefined {
  const values = new Set<T>();
  for (const match of matches) {
    if (isEmptyMatch(match)) continue;
    const picked = pick(match);
    if (picked === undefined || picked.length === 0) return undefined;
    for (const value of picked) values.add(value);
  }
  return values.size > MAX_ANCHOR_VALUES ? undefined : [...values];
}

function exactValues(matches: readonly StringMatch[]): readonly string[] | undefined {
  const values: string[] = [];
  for (const match of matches) {
    if (match.kind !== "exact") return undefined;
    values.push(match.value);
  }
  return values;
}

/** No condition at all (§4.3: skipped, i.e. never true). */
export function isEmptyMatch(match: PolicyMatch): boolean {
  return Object.values(match).every((values: readonly unknown[]) => values.length === 0);
}

function accountKey(match: ServiceAccountMatch): string {
  return `${match.namespace}/${match.serviceAccount}`;
}
