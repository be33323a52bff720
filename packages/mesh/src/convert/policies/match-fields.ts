import { parseCidr, parsePort } from "@tulle/base";
import type { PolicyMatch, ServiceAccountMatch } from "../../model.ts";
import { isRecord, quoted } from "./spec.ts";
import { bothMatch, principalMatches, stringMatches, trustDomainMatches, type TrustDomains } from "./string-matches.ts";

/** Part of a rule: the conditions that an L4 proxy can judge, and what is left of the others. */
export interface ReadConditions {
  readonly match: Partial<PolicyMatch>;
  /** Attributes of the API that an L4 proxy cannot judge. */
  readonly unsupported: readonly string[];
  /** What cannot be read, in words. */
  readonly problems: readonly string[];
}

/** What a value may refer to. */
export interface PolicyContext {
  /** The policy's, for service accounts without one. */
  readonly namespace: string;
  readonly trustDomains: TrustDomains;
}

type Reading = Partial<PolicyMatch> | "unsupported" | { readonly problem: string };
/** One field of the API: its values as conditions. */
type FieldReader = (values: readonly string[], context: PolicyContext) => Reading;

/** Values that one problem quotes; the rest is a number. */
const MAX_QUOTED_VALUES = 3;

const SOURCE_FIELDS: ReadonlyMap<string, FieldReader> = new Map<string, FieldReader>([
  ["principals", principals("principals")],
  ["notPrincipals", principals("notPrincipals")],
  ["namespaces", namespaces("namespaces")],
  ["notNamespaces", namespaces("notNamespaces")],
  ["serviceAccounts", accounts("serviceAccounts")],
  ["notServiceAccounts", accounts("notServiceAccounts")],
  ["ipBlocks", ranges("sourceIps")],
  ["notIpBlocks", ranges("notSourceIps")],
  ["trustDomains", trustDomains("principals")],
  ["notTrustDomains", trustDomains("notPrincipals")],
  ...unsupported("remoteIpBlocks", "notRemoteIpBlocks", "requestPrincipals", "notRequestPrincipals"),
]);

const OPERATION_FIELDS: ReadonlyMap<string, FieldReader> = new Map<string, FieldReader>([
  ["ports", ports("destinationPorts")],
  ["notPorts", ports("notDestinationPorts")],
  ...unsupported("hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"),
]);

/** Keys of `when` and what `values` and `notValues` become. */
const WHEN_KEYS: ReadonlyMap<string, readonly [values: FieldReader, notValues: FieldReader]> = new Map([
  ["source.ip", [ranges("sourceIps"), ranges("notSourceIps")]],
  ["source.namespace", [namespaces("namespaces"), namespaces("notNamespaces")]],
  ["source.principal", [principals("principals"), principals("notPrincipals")]],
  ["source.serviceAccount", [accounts("serviceAccounts"), accounts("notServiceAccounts")]],
  ["source.trustDomain", [trustDomains("principals"), trustDomains("notPrincipals")]],
  ["destination.ip", [ranges("destinationIps"), ranges("notDestinationIps")]],
  ["destination.port", [ports("destinationPorts"), ports("notDestinationPorts")]],
] as const);

/** Keys of `when` that only a waypoint can judge. */
const L7_KEYS =
  /^(remote\.ip|connection\.sni|request\.headers\[.+\]|request\.auth\..+|experimental\.envoy\.filters\..+)$/;

export function readSource(source: unknown, context: PolicyContext): ReadConditions {
  return readFields(source, SOURCE_FIELDS, context, "source");
}

export function readOperation(operation: unknown, context: PolicyContext): ReadConditions {
  return readFields(operation, OPERATION_FIELDS, context, "operation");
}

/** `{key, values, notValues}`. */
export function readWhen(when: unknown, context: PolicyContext): ReadConditions {
  if (!isRecord(when)) return problem("when: not an object");
  const { key, values, notValues, ...others } = when;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) return problem(`when.${unknown}: unknown field`);
  if (typeof key !== "string") return problem("when.key: missing");
  if (L7_KEYS.test(key)) return { match: {}, unsupported: [key], problems: [] };
  const readers = WHEN_KEYS.get(key);
  if (readers === undefined) return problem(`when: unknown key ${key}`);
  const fields = new Map([
    ["values", readers[0]],
    ["notValues", readers[1]],
  ]);
  const read = readFields({ values, notValues }, fields, context, key);
  return { ...read, unsupported: read.unsupported.length > 0 ? [key] : [] };
}

export function problem(text: string): ReadConditions {
  return { match: {}, unsupported: [], problems: [text] };
}

function readFields(
  from: unknown,
  readers: ReadonlyMap<string, FieldReader>,
  context: PolicyContext,
  what: string,
): ReadConditions {
  if (!isRecord(from)) return problem(`${what}: ${from === undefined || from === null ? "missing" : "not an object"}`);
  let match: Partial<PolicyMatch> = {};
  const names: string[] = [];
  const problems: string[] = [];
  let fields = 0;
  for (const [name, values] of Object.entries(from)) {
    if (values === undefined || values === null || (Array.isArray(values) && values.length === 0)) continue;
    fields += 1;
    const read = readers.get(name);
    const texts = textsOf(values);
    if (read === undefined) {
      problems.push(`${what}.${name}: unknown field`);
      continue;
    }
    if (texts === undefined) {
      problems.push(`${what}.${name}: not a list of texts`);
      continue;
    }
    const reading = read(texts, context);
    if (reading === "unsupported") {
      names.push(name);
      continue;
    }
    if ("problem" in reading) {
      problems.push(`${what}.${name}: ${reading.problem}`);
      continue;
    }
    const merged = merge(match, reading);
    if (merged === undefined)
      problems.push(`${what}.${name}: cannot be combined with the other condition on the principal`);
    else match = merged;
  }
  // It says nothing of whom it is meant for.
  if (fields === 0) problems.push(`${what}: empty`);
  return { match, unsupported: names, problems };
}

/** Two fields of the API may need the same one here. Undefined: they cannot be said together. */
function merge(match: Partial<PolicyMatch>, more: Partial<PolicyMatch>): Partial<PolicyMatch> | undefined {
  const { principals: known, notPrincipals: excluded } = match;
  if (excluded !== undefined && more.notPrincipals !== undefined) {
    return { ...match, notPrincipals: [...excluded, ...more.notPrincipals] };
  }
  if (known !== undefined && more.principals !== undefined) {
    const both = bothMatch(known, more.principals);
    return both && { ...match, principals: both };
  }
  return { ...match, ...more };
}

/** An empty text is no value: it would hold for plaintext. */
function textsOf(values: unknown): readonly string[] | undefined {
  if (!Array.isArray(values)) return undefined;
  const texts: string[] = [];
  for (const value of values as readonly unknown[]) {
    if (typeof value === "number") texts.push(String(value));
    else if (typeof value === "string" && value !== "") texts.push(value);
    else return undefined;
  }
  return texts;
}

function unsupported(...names: readonly string[]): readonly (readonly [string, FieldReader])[] {
  return names.map((name) => [name, () => "unsupported"] as const);
}

function principals(key: "principals" | "notPrincipals"): FieldReader {
  return patterns((values, { trustDomains: own }) => ({ [key]: principalMatches(values, own) }));
}

function namespaces(key: "namespaces" | "notNamespaces"): FieldReader {
  return patterns((values) => ({ [key]: stringMatches(values) }));
}

function trustDomains(key: "principals" | "notPrincipals"): FieldReader {
  return patterns((values, { trustDomains: own }): Reading => {
    const matches = trustDomainMatches(values, own);
    if (matches === undefined) return { problem: `${list(values)}: not a trust domain or the beginning of one` };
    return { [key]: matches };
  });
}

/** A `*` elsewhere than at one end would be an ordinary letter to a proxy: the condition would never hold. */
function patterns(read: FieldReader): FieldReader {
  return (values, context) => {
    const bad = values.filter((value) => value !== "*" && value.replace(/^\*|\*$/, "").includes("*"));
    return bad.length === 0 ? read(values, context) : { problem: `${list(bad)}: a * may only stand at one end` };
  };
}

/** `ns/sa`, or `sa` of the policy's own namespace. Patterns are not part of the API. */
function accounts(key: "serviceAccounts" | "notServiceAccounts"): FieldReader {
  return (values, { namespace }) => {
    const read = values.map((value): ServiceAccountMatch | undefined => {
      const [first = "", second, ...more] = value.split("/");
      if (more.length > 0 || value.includes("*") || first === "" || second === "") return undefined;
      return second === undefined ? { namespace, serviceAccount: first } : { namespace: first, serviceAccount: second };
    });
    return all(key, values, read, "not a service account");
  };
}

function ranges(key: "sourceIps" | "notSourceIps" | "destinationIps" | "notDestinationIps"): FieldReader {
  return (values) => all(key, values, values.map(parseCidr), "not an address range");
}

function ports(key: "destinationPorts" | "notDestinationPorts"): FieldReader {
  return (values) => all(key, values, values.map(parsePort), "not a port");
}

function all(
  key: keyof PolicyMatch,
  values: readonly string[],
  read: readonly unknown[],
  otherwise: string,
): Partial<PolicyMatch> | { readonly problem: string } {
  const bad = values.filter((_, index) => read[index] === undefined);
  return bad.length === 0 ? { [key]: read } : { problem: `${list(bad)}: ${otherwise}` };
}

/** The first of them: a message need not hold a thousand. */
function list(values: readonly string[]): string {
  const more = values.length - MAX_QUOTED_VALUES;
  return values.slice(0, MAX_QUOTED_VALUES).map(quoted).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
