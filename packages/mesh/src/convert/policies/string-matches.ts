import type { StringMatch } from "../../model.ts";

/** Trust domains that stand for one another: the mesh's own and its aliases (MeshConfig.trustDomainAliases). */
export type TrustDomains = readonly string[];

/** `*` any, `*x` suffix, `x*` prefix, else exact. */
export function stringMatches(values: readonly string[]): readonly StringMatch[] {
  return values.map((value) => {
    if (value === "*") return { kind: "presence" };
    if (value.startsWith("*")) return { kind: "suffix", value: value.slice(1) };
    if (value.endsWith("*")) return { kind: "prefix", value: value.slice(0, -1) };
    return { kind: "exact", value };
  });
}

/**
 * Principals, `td/ns/…/sa/…` with a `*` at one end. One of a trust domain of the mesh holds for that workload under each
 * of its names: else a DENY that was written before the mesh got another trust domain would silently stop to hold.
 */
export function principalMatches(values: readonly string[], own: TrustDomains): readonly StringMatch[] {
  return unique(stringMatches(values).flatMap((match) => underEachName(match, own)));
}

/**
 * A trust domain is how a principal begins. Undefined: one that is given by its end only (`*.org`) cannot be told from
 * the rest of the name by a proxy that knows prefixes, suffixes and whole names.
 */
export function trustDomainMatches(values: readonly string[], own: TrustDomains): readonly StringMatch[] | undefined {
  const matches: StringMatch[] = [];
  for (const value of values) {
    if (value === "*") matches.push({ kind: "presence" });
    else if (value.startsWith("*") || value.includes("/")) return undefined;
    else matches.push({ kind: "prefix", value: value.endsWith("*") ? value.slice(0, -1) : `${value}/` });
  }
  return unique(matches.flatMap((match) => underEachName(match, own)));
}

/**
 * What both lists hold for. Undefined: that cannot be said as a list of matches (an end of a name with a beginning), or
 * there is nothing, which no list can say either.
 */
export function bothMatch(
  left: readonly StringMatch[],
  right: readonly StringMatch[],
): readonly StringMatch[] | undefined {
  const matches: StringMatch[] = [];
  for (const a of left) {
    for (const b of right) {
      const both = intersection(a, b);
      if (both === "inexpressible") return undefined;
      if (both !== "nothing") matches.push(both);
    }
  }
  return matches.length === 0 ? undefined : unique(matches);
}

function intersection(a: StringMatch, b: StringMatch): StringMatch | "nothing" | "inexpressible" {
  if (a.kind === "presence") return b;
  if (b.kind === "presence") return a;
  if (a.kind === "exact") return holds(b, a.value) ? a : "nothing";
  if (b.kind === "exact") return holds(a, b.value) ? b : "nothing";
  if (a.kind !== b.kind) return "inexpressible";
  if (narrows(a.kind, a.value, b.value)) return a;
  return narrows(b.kind, b.value, a.value) ? b : "nothing";
}

function holds(match: StringMatch, text: string): boolean {
  switch (match.kind) {
    case "presence":
      return text !== "";
    case "exact":
      return text === match.value;
    case "prefix":
      return text.startsWith(match.value);
    case "suffix":
      return text.endsWith(match.value);
    default:
      return match satisfies never;
  }
}

/** Everything that begins (ends) with `inner` begins (ends) with `outer`. */
function narrows(kind: "prefix" | "suffix", inner: string, outer: string): boolean {
  return kind === "prefix" ? inner.startsWith(outer) : inner.endsWith(outer);
}

function underEachName(match: StringMatch, own: TrustDomains): readonly StringMatch[] {
  if (own.length < 2 || (match.kind !== "exact" && match.kind !== "prefix")) return [match];
  const { kind, value } = match;
  const slash = value.indexOf("/");
  if (slash < 0) {
    // The beginning of a trust domain's name: it may hold for one of ours, and then for the others too.
    const touches = kind === "prefix" && own.some((name) => name.startsWith(value));
    return touches ? [match, ...own.map((name) => ({ kind, value: `${name}/` }))] : [match];
  }
  if (!own.includes(value.slice(0, slash))) return [match];
  return [match, ...own.map((name) => ({ kind, value: name + value.slice(slash) }))];
}

function unique(matches: readonly StringMatch[]): readonly StringMatch[] {
  return [...new Map(matches.map((match) => [JSON.stringify(match), match])).values()];
}
