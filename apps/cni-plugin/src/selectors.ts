import { DATAPLANE_MODE_LABEL } from "@tulle/base";

/** Kubernetes label selectors, as far as an API server accepts them. */
export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly LabelExpression[];
}

export interface LabelExpression {
  readonly key: string;
  readonly operator: string;
  readonly values?: readonly string[];
}

/** A pod is selected when both match. */
export interface EnablementSelector {
  readonly podSelector: LabelSelector;
  readonly namespaceSelector: LabelSelector;
}

export type Labels = Readonly<Record<string, string>>;

/** The pod says ambient; or its namespace does and the pod does not say none. */
export const AMBIENT_SELECTORS: readonly EnablementSelector[] = [
  { podSelector: { matchLabels: { [DATAPLANE_MODE_LABEL]: "ambient" } }, namespaceSelector: {} },
  {
    podSelector: { matchExpressions: [{ key: DATAPLANE_MODE_LABEL, operator: "NotIn", values: ["none"] }] },
    namespaceSelector: { matchLabels: { [DATAPLANE_MODE_LABEL]: "ambient" } },
  },
];
const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"];

export function isSelected(selectors: readonly EnablementSelector[], pod: Labels, namespace: Labels): boolean {
  return selectors.some((s) => matches(s.podSelector, pod) && matches(s.namespaceSelector, namespace));
}

/** Undefined: `value` is no list of selectors. An unknown operator is refused too: it could mean anything. */
export function selectorsFrom(value: unknown): readonly EnablementSelector[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const selectors: EnablementSelector[] = [];
  for (const item of value as unknown[]) {
    const { podSelector = {}, namespaceSelector = {} } = (item ?? {}) as Partial<EnablementSelector>;
    if (!isSelector(podSelector) || !isSelector(namespaceSelector)) return undefined;
    selectors.push({ podSelector, namespaceSelector });
  }
  return selectors;
}

/** An empty selector matches everything. */
function matches({ matchLabels = {}, matchExpressions = [] }: LabelSelector, labels: Labels): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every((expression) => holds(expression, labels))
  );
}

function holds({ key, operator, values = [] }: LabelExpression, labels: Labels): boolean {
  const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    default:
      return value === undefined;
  }
}

function isSelector(value: unknown): value is LabelSelector {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const { matchLabels = {}, matchExpressions = [] } = value as { matchLabels?: unknown; matchExpressions?: unknown };
  if (typeof matchLabels !== "object" || matchLabels === null) return false;
  if (!Object.values(matchLabels).every((item) => typeof item === "string")) return false;
  return Array.isArray(matchExpressions) && matchExpressions.every(isExpression);
}

function isExpression(value: unknown): value is LabelExpression {
  const { key, operator, values = [] } = (value ?? {}) as { key?: unknown; operator?: unknown; values?: unknown };
  return (
    typeof key === "string" &&
    typeof operator === "string" &&
    OPERATORS.includes(operator) &&
    Array.isArray(values) &&
    values.every((item) => typeof item === "string")
  );
}
