import { type Cidr, parseCidr, parsePort } from "@tulle/base";
import type { PolicyMatch, ServiceAccountMatch, StringMatch } from "../model.ts";

/** Part of a rule: the conditions that an L4 proxy can judge, and the names of those that it cannot. */
export interface ReadConditions {
  readonly match: Partial<PolicyMatch>;
  readonly unsupported: readonly string[];
}

/** One field of the API: its values as conditions; undefined when they cannot be expressed or are malformed. */
type FieldReader = (values: readonly string[], namespace: string) => Partial<PolicyMatch> | undefined;

const SOURCE_FIELDS: ReadonlyMap<string, FieldReader> = new Map<string, FieldReader>([
  ["principals", field("principals", strings)],
  ["notPrincipals", field("notPrincipals", strings)],
  ["namespaces", field("namespaces", strings)],
  ["notNamespaces", field("notNamespaces", strings)],
  ["serviceAccounts", field("serviceAccounts", accounts)],
  ["notServiceAccounts", field("notServiceAccounts", accounts)],
  ["ipBlocks", field("sourceIps", ranges)],
  ["notIpBlocks", field("notSourceIps", ranges)],
  ["trustDomains", field("principals", trustDomains)],
  ["notTrustDomains", field("notPrincipals", trustDomains)],
]);

const OPERATION_FIELDS: ReadonlyMap<string, FieldReader> = new Map<string, FieldReader>([
  ["ports", field("destinationPorts", ports)],
  ["notPorts", field("notDestinationPorts", ports)],
]);

/** Keys of `when` and the fields that `values` and `notValues` become. */
const WHEN_KEYS: ReadonlyMap<string, readonly [values: FieldReader, notValues: FieldReader]> = new Map<
  string,
  readonly [FieldReader, FieldReader]
>([
  ["source.ip", [field("sourceIps", ranges), field("notSourceIps", ranges)]],
  ["source.namespace", [field("namespaces", strings), field("notNamespaces", strings)]],
  ["source.principal", [field("principals", strings), field("notPrincipals", strings)]],
  ["source.serviceAccount", [field("serviceAccounts", accounts), field("notServiceAccounts", accounts)]],
  ["source.trustDomain", [field("principals", trustDomains), field("notPrincipals", trustDomains)]],
  ["destination.ip", [field("destinationIps", ranges), field("notDestinationIps", ranges)]],
  ["destination.port", [field("destinationPorts", ports), field("notDestinationPorts", ports)]],
]);

/** `namespace`: the policy's, for service accounts without one. */
export function readSource(source: unknown, namespace: string): ReadConditions {
  return readFields(source, SOURCE_FIELDS, namespace, "source");
}

export function readOperation(operation: unknown, namespace: string): ReadConditions {
  return readFields(operation, OPERATION_FIELDS, namespace, "operation");
}

/** `{key, values, notValues}`. */
export function readWhen(when: unknown, namespace: string): ReadConditions {
  const { key, values, notValues, ...others } = isRecord(when) ? when : { key: "when" };
  const name = typeof key === "string" ? key : "when";
  const readers = WHEN_KEYS.get(name);
  if (readers === undefined || Object.keys(others).length > 0) return { match: {}, unsupported: [name] };
  const fields = new Map([
    ["values", readers[0]],
    ["notValues", readers[1]],
  ]);
  const { match, unsupported } = readFields({ values, notValues }, fields, namespace, name);
  const nothing = isAbsent(values) && isAbsent(notValues);
  return { match, unsupported: unsupported.length > 0 || nothing ? [name] : [] };
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function readFields(
  from: unknown,
  readers: ReadonlyMap<string, FieldReader>,
  namespace: string,
  what: string,
): ReadConditions {
  if (from === undefined || from === null) return { match: {}, unsupported: [] };
  if (!isRecord(from)) return { match: {}, unsupported: [what] };
  const match: Record<string, readonly unknown[]> = {};
  const unsupported: string[] = [];
  for (const [name, values] of Object.entries(from)) {
    if (isAbsent(values)) continue;
    const read = readers.get(name);
    const texts = textsOf(values);
    const conditions = read === undefined || texts === undefined ? undefined : read(texts, namespace);
    if (conditions === undefined) {
      unsupported.push(name);
      continue;
    }
    for (const [key, list] of Object.entries(conditions)) {
      // Two fields of the API may need the same one here. Exclusions add up; alternatives that must both hold do not.
      const known = match[key];
      if (known !== undefined && !key.startsWith("not")) unsupported.push(name);
      else match[key] = [...(known ?? []), ...list];
    }
  }
  return { match, unsupported };
}

function isAbsent(values: unknown): boolean {
  return values === undefined || values === null || (Array.isArray(values) && values.length === 0);
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

function field<K extends keyof PolicyMatch>(
  key: K,
  read: (values: readonly string[], namespace: string) => PolicyMatch[K] | undefined,
): FieldReader {
  return (values, namespace) => {
    const list = read(values, namespace);
    return list && { [key]: list };
  };
}

/** `*` any, `*x` suffix, `x*` prefix, else exact. */
function strings(values: readonly string[]): readonly StringMatch[] {
  return values.map((value) => {
    if (value === "*") return { kind: "presence" };
    if (value.startsWith("*")) return { kind: "suffix", value: value.slice(1) };
    if (value.endsWith("*")) return { kind: "prefix", value: value.slice(0, -1) };
    return { kind: "exact", value };
  });
}

/** A trust domain is how a principal begins. One that is given by its end cannot be told from the rest of the name. */
function trustDomains(values: readonly string[]): readonly StringMatch[] | undefined {
  const matches: StringMatch[] = [];
  for (const value of values) {
    if (value === "*") matches.push({ kind: "presence" });
    else if (value.startsWith("*") || value.includes("/")) return undefined;
    else matches.push({ kind: "prefix", value: value.endsWith("*") ? value.slice(0, -1) : `${value}/` });
  }
  return matches;
}

/** `ns/sa`, or `sa` of the policy's own namespace. Patterns are not part of the API. */
function accounts(values: readonly string[], namespace: string): readonly ServiceAccountMatch[] | undefined {
  const matches = values.map((value) => {
    const [first = "", second, ...more] = value.split("/");
    if (more.length > 0 || value.includes("*")) return undefined;
    return second === undefined ? { namespace, serviceAccount: first } : { namespace: first, serviceAccount: second };
  });
  return matches.every((match) => match !== undefined) ? matches : undefined;
}

function ranges(values: readonly string[]): readonly Cidr[] | undefined {
  const cidrs = values.map(parseCidr);
  return cidrs.every((cidr) => cidr !== undefined) ? cidrs : undefined;
}

function ports(values: readonly string[]): readonly number[] | undefined {
  const numbers = values.map(parsePort);
  return numbers.every((port) => port !== undefined) ? numbers : undefined;
}
