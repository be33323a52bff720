/** The list of label selectors that says which pods are in the mesh. */
import { type LabelExpression, type Labels, type LabelSelector, matchesSelector } from "../label-selector.ts";
import { DATAPLANE_MODE_LABEL } from "../well-known.ts";

/** A pod is in the mesh if it and its namespace fit one of them. */
export interface EnablementSelector {
  readonly podSelector: LabelSelector;
  readonly namespaceSelector: LabelSelector;
}

export const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"] as const;
const EVERYTHING = { matchLabels: {}, matchExpressions: [] } as const;

/** The pod says so itself; or its namespace does and it does not say no (spec: control-plane §1.1). */
export const DEFAULT_ENABLEMENT: readonly EnablementSelector[] = [
  { podSelector: { ...EVERYTHING, matchLabels: { [DATAPLANE_MODE_LABEL]: "ambient" } }, namespaceSelector: EVERYTHING },
  {
    podSelector: {
      ...EVERYTHING,
      matchExpressions: [{ key: DATAPLANE_MODE_LABEL, operator: "NotIn", values: ["none"] }],
    },
    namespaceSelector: { ...EVERYTHING, matchLabels: { [DATAPLANE_MODE_LABEL]: "ambient" } },
  },
];

/** Never captured unless the installation says otherwise. */
export const DEFAULT_EXCLUDED_NAMESPACES: readonly string[] = ["kube-system"];

/** By the labels of a pod and of its namespace. */
export function isSelected(
  selectors: readonly EnablementSelector[],
  pod: Labels | undefined,
  namespace: Labels | undefined,
): boolean {
  return selectors.some(
    ({ podSelector, namespaceSelector }) =>
      matchesSelector(podSelector, pod) && matchesSelector(namespaceSelector, namespace),
  );
}

/** Of parsed YAML: a list of `{podSelector, namespaceSelector}`. Throws RangeError that names what is wrong. */
export function readEnablement(value: unknown): EnablementSelector[] {
  if (!Array.isArray(value) || value.length === 0) throw new RangeError("it must be a list of selectors");
  return value.map((item: unknown, index) => {
    const { podSelector, namespaceSelector, ...others } = record(item, `[${index}]`);
    refuseOthers(others, `[${index}]`);
    return {
      podSelector: readSelector(podSelector, `[${index}].podSelector`),
      namespaceSelector: readSelector(namespaceSelector, `[${index}].namespaceSelector`),
    };
  });
}

/** A comma list of names; undefined: the default. Throws RangeError when a name is empty. */
export function readExcludedNamespaces(text: string | undefined): ReadonlySet<string> {
  const names = text === undefined ? DEFAULT_EXCLUDED_NAMESPACES : text.split(",").map((name) => name.trim());
  if (names.includes("")) throw new RangeError("it holds an empty name");
  return new Set(names);
}

function readSelector(value: unknown, path: string): LabelSelector {
  if (value === undefined || value === null) return EVERYTHING;
  const { matchLabels = {}, matchExpressions = [], ...others } = record(value, path);
  refuseOthers(others, path);
  const labels = Object.entries(record(matchLabels, `${path}.matchLabels`));
  if (!Array.isArray(matchExpressions)) throw new RangeError(`${path}.matchExpressions must be a list`);
  return {
    matchLabels: Object.fromEntries(labels.map(([key, text]) => [key, string(text, `${path}.matchLabels.${key}`)])),
    matchExpressions: matchExpressions.map((item: unknown, index) =>
      readExpression(item, `${path}.matchExpressions[${index}]`),
    ),
  };
}

function readExpression(value: unknown, path: string): LabelExpression {
  const { key, operator, values = [], ...others } = record(value, path);
  refuseOthers(others, path);
  const known = OPERATORS.find((name) => name === operator);
  if (known === undefined) throw new RangeError(`${path}.operator must be one of ${OPERATORS.join(", ")}`);
  if (!Array.isArray(values)) throw new RangeError(`${path}.values must be a list`);
  const needsValues = known === "In" || known === "NotIn";
  if (needsValues !== values.length > 0) {
    throw new RangeError(`${path}.values must ${needsValues ? "not be empty" : "be empty"} for ${known}`);
  }
  return {
    key: string(key, `${path}.key`),
    operator: known,
    values: values.map((one) => string(one, `${path}.values`)),
  };
}

function record(value: unknown, path: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new RangeError(`${path} must be an object`);
}

function string(value: unknown, path: string): string {
  if (typeof value === "string") return value;
  throw new RangeError(`${path} must be a string`);
}

/** A field that is not understood might have narrowed or widened the choice. */
function refuseOthers(others: Record<string, unknown>, path: string): void {
  const [name] = Object.keys(others);
  if (name !== undefined) throw new RangeError(`${path}.${name} is not a field of a selector`);
}
