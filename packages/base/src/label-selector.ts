export type Labels = Readonly<Record<string, string>>;

/** As Kubernetes has it (metav1.LabelSelector). What is missing selects everything. */
export interface LabelSelector {
  readonly matchLabels?: Labels | undefined;
  readonly matchExpressions?: readonly LabelExpression[] | undefined;
}

export interface LabelExpression {
  readonly key: string;
  /** `In`, `NotIn`, `Exists`, `DoesNotExist`; another selects nothing. */
  readonly operator: string;
  readonly values?: readonly string[] | undefined;
}

/** As Kubernetes reads it: `NotIn` takes objects without the label too. */
export function matchesSelector(selector: LabelSelector, labels: Labels | undefined): boolean {
  const valueOf = (key: string) => (labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined);
  const { matchLabels = {}, matchExpressions = [] } = selector;
  return (
    Object.entries(matchLabels).every(([key, value]) => valueOf(key) === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = valueOf(key);
      switch (operator) {
        case "In":
          return value !== undefined && values.includes(value);
        case "NotIn":
          return value === undefined || !values.includes(value);
        case "Exists":
          return value !== undefined;
        case "DoesNotExist":
          return value === undefined;
        default:
          return false;
      }
    })
  );
}
