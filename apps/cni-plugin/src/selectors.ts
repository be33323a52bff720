import type { LabelExpression, LabelSelector } from "@tulle/base";
import type { EnablementSelector } from "@tulle/base/enrolment";

const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"];

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
