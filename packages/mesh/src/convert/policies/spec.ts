import type { Labels } from "../kubernetes.ts";

export type PolicyAction = "ALLOW" | "DENY" | "AUDIT" | "CUSTOM";

/** The frame of an AuthorizationPolicy's spec. */
export type AuthorizationSpec =
  /** Bound to a waypoint or gateway: nothing for L4 proxies. */
  | { readonly kind: "targeted" }
  /** What it wants is not known. `selector`: for whom, as far as that can be read. */
  | { readonly kind: "unreadable"; readonly selector: Labels | undefined; readonly problem: string }
  | {
      readonly kind: "readable";
      readonly action: PolicyAction;
      readonly rules: readonly unknown[];
      readonly selector: Labels | undefined;
    };

const ACTIONS = ["ALLOW", "DENY", "AUDIT", "CUSTOM"] as const;
const FIELDS: ReadonlySet<string> = new Set(["selector", "targetRef", "targetRefs", "rules", "action", "provider"]);
/** Values of users end up in messages of a condition: no longer than this. */
const MAX_QUOTED = 64;

/** Unknown fields are not ignored: a misspelt `rules` would make a DENY hold for nothing. */
export function readAuthorizationSpec(from: unknown): AuthorizationSpec {
  const spec = from ?? {};
  if (!isRecord(spec)) return unreadable("spec: not an object");
  const { rules, action, selector, targetRef, targetRefs } = spec;
  const labels = readSelector(selector);
  // Whom it selects is unknown: then it holds for the whole namespace.
  if (labels === "malformed") return unreadable("selector");
  const targeted =
    isPresent(targetRef) || (isPresent(targetRefs) && !(Array.isArray(targetRefs) && targetRefs.length === 0));
  if (targeted) {
    if (isPresent(selector)) return unreadable("both selector and targetRefs", labels);
    if (isPresent(targetRef) && !isRecord(targetRef)) return unreadable("targetRef: not an object");
    if (isPresent(targetRefs) && !Array.isArray(targetRefs)) return unreadable("targetRefs: not a list");
    return { kind: "targeted" };
  }
  const unknown = Object.keys(spec).find((name) => !FIELDS.has(name));
  if (unknown !== undefined) return unreadable(`${unknown}: unknown field`, labels);
  const known = ACTIONS.find((candidate) => candidate === (action ?? "ALLOW"));
  if (known === undefined) return unreadable(`action: ${quoted(action)} is none`, labels);
  if (isPresent(rules) && !Array.isArray(rules)) return unreadable("rules: not a list", labels);
  return { kind: "readable", action: known, rules: Array.isArray(rules) ? rules : [], selector: labels };
}

/** `undefined`: no selector, or one that selects everything. */
export function readSelector(selector: unknown): Labels | undefined | "malformed" {
  if (!isPresent(selector)) return undefined;
  if (!isRecord(selector)) return "malformed";
  const { matchLabels, ...others } = selector;
  if (Object.keys(others).length > 0) return "malformed";
  if (!isPresent(matchLabels)) return undefined;
  if (!isRecord(matchLabels) || !Object.values(matchLabels).every((value) => typeof value === "string")) {
    return "malformed";
  }
  return Object.keys(matchLabels).length === 0 ? undefined : (matchLabels as Labels);
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null;
}

/** A value of a user as part of a message. */
export function quoted(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length <= MAX_QUOTED ? text : `${text.slice(0, MAX_QUOTED)}…`;
}

function unreadable(problem: string, selector?: Labels): AuthorizationSpec {
  return { kind: "unreadable", selector, problem };
}
