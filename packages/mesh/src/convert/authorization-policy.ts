import { newMatch } from "../defaults.ts";
import type { Policy, PolicyMatch } from "../model.ts";
import { isEmptyMatch } from "../rule-compiler.ts";
import { type Condition, type MeshSettings, type ObjectStatus, statusOf } from "./context.ts";
import { annotationOf, type KubePolicy, type Labels, nameOf, namespaceOf, parseGoBool } from "./kubernetes.ts";
import {
  type PolicyContext,
  problem,
  type ReadConditions,
  readOperation,
  readSource,
  readWhen,
} from "./policies/match-fields.ts";
import { isPresent, isRecord, readAuthorizationSpec } from "./policies/spec.ts";

export interface ConvertedAuthorization {
  /** undefined: not for L4 proxies (bound to a waypoint, or of an action that they do not have). */
  readonly policy: Policy | undefined;
  /** Workloads that must name it; undefined when its scope alone says for whom it is. */
  readonly selector: Labels | undefined;
  /** undefined for policies with targets: `policyTargetStatus` speaks of them. */
  readonly status: ObjectStatus | undefined;
}

/** The part of the configuration on which policies depend. */
export type PolicySettings = Pick<MeshSettings, "rootNamespace" | "trustDomain"> & {
  /** Former or foreign names of the mesh's trust domain: principals of any of them are the same workload. Default: none. */
  readonly trustDomainAliases?: readonly string[] | undefined;
};

type Rule = readonly (readonly PolicyMatch[])[];

const DRY_RUN = "istio.io/dry-run";
const MANAGER = "istio-ambient-ztunnel-policy";
/** Problems that a condition lists; the rest is a number. */
const MAX_LISTED_PROBLEMS = 8;

/**
 * AuthorizationPolicy → what an L4 proxy enforces (control-plane.md §2.7). What it cannot judge never makes the outcome
 * more open: an ALLOW rule that needs it is left out, a DENY rule is enforced without it, and if nothing else is in that
 * rule, it denies everything. The status names what it was.
 */
export function convertAuthorizationPolicy(from: KubePolicy, settings: PolicySettings): ConvertedAuthorization {
  const spec = readAuthorizationSpec(from.spec);
  if (spec.kind === "targeted") return { policy: undefined, selector: undefined, status: undefined };
  const status = (state: Condition["status"], reason: string, message: string) =>
    statusOf("AuthorizationPolicy", from, MANAGER, [{ type: "ZtunnelAccepted", status: state, reason, message }]);

  const namespace = namespaceOf(from);
  const dryRun = annotationOf(from, DRY_RUN);
  const own = namespace === settings.rootNamespace ? "Global" : "Namespace";
  const base = {
    name: nameOf(from),
    namespace,
    scope: spec.selector === undefined ? own : "WorkloadSelector",
    dryRun: parseGoBool(dryRun) ?? false,
  } as const;
  if (spec.kind === "unreadable") {
    // Nobody knows what was meant: nothing passes.
    const policy: Policy = { ...base, action: "Deny", rules: [[]] };
    const message = `the spec cannot be read (${spec.problem}): all traffic is denied until it is corrected`;
    return { policy, selector: spec.selector, status: status("False", "Invalid", message) };
  }
  const { action, selector } = spec;
  if (action === "AUDIT" || action === "CUSTOM") {
    const message = `ztunnel does not support the ${action} action`;
    return { policy: undefined, selector: undefined, status: status("False", "UnsupportedValue", message) };
  }
  const context: PolicyContext = {
    namespace,
    trustDomains: [...new Set([settings.trustDomain, ...(settings.trustDomainAliases ?? [])])],
  };
  const read = spec.rules.map((rule, index) => readRule(rule, index, action, context));
  const policy: Policy = {
    ...base,
    action: action === "ALLOW" ? "Allow" : "Deny",
    rules: read.flatMap(({ rule }) => (rule === undefined ? [] : [rule])),
  };
  const { state, reason, message } = verdict(action, read);
  return { policy, selector, status: status(state, reason, message + dryRunNote(dryRun)) };
}

interface ReadRule {
  /** undefined: left out. No clauses: holds for everything. */
  readonly rule: Rule | undefined;
  readonly unsupported: readonly string[];
  readonly problems: readonly string[];
}

function readRule(from: unknown, index: number, action: "ALLOW" | "DENY", context: PolicyContext): ReadRule {
  const unsupported: string[] = [];
  const problems: string[] = [];
  const clauses: (readonly PolicyMatch[])[] = [];
  const add = (items: readonly ReadConditions[]) => {
    if (items.length === 0) return;
    for (const item of items) {
      unsupported.push(...item.unsupported);
      problems.push(...item.problems);
    }
    const matches = items.map((item) => newMatch(item.match));
    // A DENY's alternative of which nothing is left holds for everything, and so does its clause.
    if (action === "ALLOW" || !matches.some(isEmptyMatch)) clauses.push(matches);
  };
  const list = (values: unknown, name: string, read: (item: unknown) => ReadConditions) => {
    if (!isPresent(values)) return [];
    return Array.isArray(values) ? values.map(read) : [problem(`${name}: not a list`)];
  };
  if (isRecord(from)) {
    const { from: sources, to: operations, when, ...others } = from;
    problems.push(...Object.keys(others).map((name) => `${name}: unknown field`));
    add(list(operations, "to", (item) => wrapped(item, "to", "operation", (value) => readOperation(value, context))));
    add(list(sources, "from", (item) => wrapped(item, "from", "source", (value) => readSource(value, context))));
    for (const condition of list(when, "when", (item) => readWhen(item, context))) add([condition]);
  } else {
    problems.push("not an object");
  }
  const leftOut = action === "ALLOW" && (unsupported.length > 0 || problems.length > 0);
  return {
    rule: leftOut ? undefined : clauses,
    unsupported,
    problems: problems.map((text) => `rules[${index}].${text}`),
  };
}

/** `{source: …}` and `{operation: …}`. */
function wrapped(item: unknown, list: string, name: string, read: (value: unknown) => ReadConditions): ReadConditions {
  if (!isRecord(item)) return problem(`${list}: not an object`);
  const { [name]: value, ...others } = item;
  const { match, unsupported, problems } = read(value);
  const unknown = Object.keys(others).map((other) => `${list}.${other}: unknown field`);
  return { match, unsupported, problems: [...unknown, ...problems] };
}

function verdict(
  action: "ALLOW" | "DENY",
  read: readonly ReadRule[],
): { readonly state: Condition["status"]; readonly reason: string; readonly message: string } {
  const unsupported = [...new Set(read.flatMap((rule) => rule.unsupported))].sort();
  const problems = read.flatMap((rule) => rule.problems);
  if (unsupported.length === 0 && problems.length === 0) {
    return { state: "True", reason: "Accepted", message: "attached to ztunnel" };
  }
  const texts: string[] = [];
  if (problems.length > 0) {
    const listed = problems.slice(0, MAX_LISTED_PROBLEMS).join("; ");
    const more = problems.length - MAX_LISTED_PROBLEMS;
    texts.push(`the spec cannot be read in part (${listed}${more > 0 ? `; and ${more} more` : ""}).`);
  }
  if (unsupported.length > 0) {
    texts.push(`ztunnel does not support HTTP attributes (found: ${unsupported.join(", ")}).`);
  }
  texts.push(consequence(action, read));
  const message = texts.join(" ");
  return problems.length > 0
    ? { state: "False", reason: "Invalid", message }
    : { state: "True", reason: "UnsupportedValue", message };
}

function consequence(action: "ALLOW" | "DENY", read: readonly ReadRule[]): string {
  const affected = read.filter(({ unsupported, problems }) => unsupported.length > 0 || problems.length > 0);
  const forHttp = affected.some(({ unsupported }) => unsupported.length > 0);
  const instead = forHttp ? " HTTP rules need a waypoint and a targetRef to it." : "";
  if (action === "ALLOW") {
    return `Rules of this ALLOW policy that use them are left out: less is allowed than asked for.${instead}`;
  }
  return affected.some(({ rule }) => rule?.length === 0)
    ? `A rule of this DENY policy has nothing else in it and denies all traffic.${instead}`
    : `This DENY policy is enforced without them: more is denied than asked for.${instead}`;
}

function dryRunNote(annotation: string | undefined): string {
  if (annotation === undefined) return "";
  switch (parseGoBool(annotation)) {
    case true:
      return " (dry run: what it matches is reported, nothing is refused for it)";
    case false:
      return "";
    default:
      return ` (the annotation ${DRY_RUN} is not a boolean: the policy is enforced)`;
  }
}
