import { newMatch } from "../defaults.ts";
import type { Policy, PolicyMatch } from "../model.ts";
import { isEmptyMatch } from "../rule-compiler.ts";
import { isRecord, readOperation, type ReadConditions, readSource, readWhen } from "./attributes.ts";
import { type Condition, type MeshSettings, type ObjectStatus, statusOf } from "./context.ts";
import { annotationOf, type KubePolicy, type Labels, nameOf, namespaceOf, parseGoBool } from "./kubernetes.ts";

export interface ConvertedAuthorization {
  /** undefined: not for L4 proxies (bound to a waypoint, or of an action that they do not have). */
  readonly policy: Policy | undefined;
  /** Workloads that must name it; undefined when its scope alone says for whom it is. */
  readonly selector: Labels | undefined;
  /** undefined for policies that are bound to a waypoint: that is another layer's to say. */
  readonly status: ObjectStatus | undefined;
}

type Rule = readonly (readonly PolicyMatch[])[];

const DRY_RUN = "istio.io/dry-run";
const MALFORMED = "malformed spec";

/**
 * AuthorizationPolicy → what an L4 proxy enforces (control-plane.md §2.7). What it cannot judge never makes the outcome
 * more open: an ALLOW rule that needs it is left out, a DENY rule is enforced without it, and if nothing else is in that
 * rule, it denies everything. The status names what it was.
 */
export function convertAuthorizationPolicy(from: KubePolicy, settings: MeshSettings): ConvertedAuthorization {
  const spec = readSpec(from.spec);
  if (spec.targeted) return { policy: undefined, selector: undefined, status: undefined };
  const status = conditionOf(from);
  if (spec.action === "AUDIT" || spec.action === "CUSTOM") {
    const message = `ztunnel does not support the ${spec.action} action`;
    return { policy: undefined, selector: undefined, status: status("False", "UnsupportedValue", message) };
  }
  const namespace = namespaceOf(from);
  const own = namespace === settings.rootNamespace ? "Global" : "Namespace";
  const base = {
    name: nameOf(from),
    namespace,
    scope: spec.selector === undefined ? own : "WorkloadSelector",
    dryRun: parseGoBool(annotationOf(from, DRY_RUN)) ?? false,
  } as const;
  if (spec.action === undefined) {
    // Nobody knows what was meant: nothing passes.
    const policy: Policy = { ...base, dryRun: false, action: "Deny", rules: [[]] };
    const message = `the spec cannot be read (${spec.problem}): all traffic is denied until it is corrected`;
    return { policy, selector: spec.selector, status: status("False", "Invalid", message) };
  }
  const { action } = spec;
  const read = spec.rules.map((rule) => readRule(rule, action, namespace));
  const policy: Policy = {
    ...base,
    action: action === "ALLOW" ? "Allow" : "Deny",
    rules: read.flatMap(({ rule }) => (rule === undefined ? [] : [rule])),
  };
  const unsupported = [...new Set(read.flatMap((rule) => rule.unsupported))].sort();
  if (unsupported.length === 0) {
    return { policy, selector: spec.selector, status: status("True", "Accepted", "attached to ztunnel") };
  }
  const emptied = read.some(({ rule, unsupported: names }) => names.length > 0 && rule?.length === 0);
  const message = `ztunnel does not support HTTP attributes (found: ${unsupported.join(", ")}). ${consequence(action, emptied)}`;
  return { policy, selector: spec.selector, status: status("True", "UnsupportedValue", message) };
}

interface Spec {
  /** undefined: cannot be read. */
  readonly action: "ALLOW" | "DENY" | "AUDIT" | "CUSTOM" | undefined;
  readonly rules: readonly unknown[];
  readonly selector: Labels | undefined;
  readonly targeted: boolean;
  readonly problem: string;
}

const ACTIONS = ["ALLOW", "DENY", "AUDIT", "CUSTOM"] as const;

function readSpec(from: unknown): Spec {
  const spec = from ?? {};
  const unreadable = { action: undefined, rules: [], selector: undefined, targeted: false };
  if (!isRecord(spec)) return { ...unreadable, problem: MALFORMED };
  const { rules, action, selector } = spec;
  if (spec["targetRef"] || (Array.isArray(spec["targetRefs"]) && spec["targetRefs"].length > 0)) {
    return { ...unreadable, targeted: true, problem: "" };
  }
  const labels = readSelector(selector);
  // Whom it selects is unknown: then it holds for the whole namespace.
  if (labels === "malformed") return { ...unreadable, problem: "selector" };
  const known = ACTIONS.find((candidate) => candidate === (action ?? "ALLOW"));
  if (known === undefined) return { ...unreadable, selector: labels, problem: "action" };
  if (rules !== undefined && rules !== null && !Array.isArray(rules)) {
    return { ...unreadable, selector: labels, problem: "rules" };
  }
  return { action: known, rules: rules ?? [], selector: labels, targeted: false, problem: "" };
}

/** `undefined`: no selector, or one that selects everything. */
export function readSelector(selector: unknown): Labels | undefined | "malformed" {
  if (selector === undefined || selector === null) return undefined;
  if (!isRecord(selector)) return "malformed";
  const { matchLabels, ...others } = selector;
  if (Object.keys(others).length > 0) return "malformed";
  if (matchLabels === undefined || matchLabels === null) return undefined;
  if (!isRecord(matchLabels) || !Object.values(matchLabels).every((value) => typeof value === "string")) {
    return "malformed";
  }
  return Object.keys(matchLabels).length === 0 ? undefined : (matchLabels as Labels);
}

interface ReadRule {
  /** undefined: left out. No clauses: holds for everything. */
  readonly rule: Rule | undefined;
  readonly unsupported: readonly string[];
}

function readRule(from: unknown, action: "ALLOW" | "DENY", namespace: string): ReadRule {
  const known = isRecord(from) ? from : {};
  const { from: sources, to: operations, when, ...others } = known;
  const unsupported: string[] = isRecord(from) ? Object.keys(others) : ["rule"];
  const clauses: (readonly PolicyMatch[])[] = [];
  const add = (items: readonly ReadConditions[]) => {
    if (items.length === 0) return;
    for (const item of items) unsupported.push(...item.unsupported);
    const matches = items.map((item) => newMatch(item.match));
    // An alternative of which nothing is left holds for nothing in an ALLOW (the proxy skips it); in a DENY it holds for
    // everything, and so does the clause.
    if (action === "ALLOW" || !matches.some(isEmptyMatch)) clauses.push(matches);
  };
  const list = (values: unknown, name: string, read: (item: unknown) => ReadConditions) => {
    if (values === undefined || values === null) return [];
    if (!Array.isArray(values)) return [{ match: {}, unsupported: [name] }];
    return values.map(read);
  };
  add(list(operations, "to", (item) => wrapped(item, "operation", (value) => readOperation(value, namespace))));
  add(list(sources, "from", (item) => wrapped(item, "source", (value) => readSource(value, namespace))));
  for (const condition of list(when, "when", (item) => readWhen(item, namespace))) add([condition]);
  if (action === "ALLOW" && unsupported.length > 0) return { rule: undefined, unsupported };
  return { rule: clauses, unsupported };
}

/** `{source: …}` and `{operation: …}`. */
function wrapped(item: unknown, name: string, read: (value: unknown) => ReadConditions): ReadConditions {
  if (!isRecord(item)) return { match: {}, unsupported: [name] };
  const { [name]: value, ...others } = item;
  const { match, unsupported } = read(value);
  return { match, unsupported: [...Object.keys(others), ...unsupported] };
}

function consequence(action: "ALLOW" | "DENY", emptied: boolean): string {
  if (action === "ALLOW") {
    return "Rules of this ALLOW policy that use them are left out: less is allowed than asked for. Use a waypoint for them.";
  }
  return emptied
    ? "A rule of this DENY policy has nothing else in it and denies all traffic. Use a waypoint for it."
    : "This DENY policy is enforced without them: more is denied than asked for. Use a waypoint for them.";
}

function conditionOf(from: KubePolicy) {
  return (status: Condition["status"], reason: string, message: string): ObjectStatus =>
    statusOf("AuthorizationPolicy", from, "istio-ambient-ztunnel-policy", [
      { type: "ZtunnelAccepted", status, reason, message },
    ]);
}
