import type { LabelSelector, MeshSettings } from "./context.ts";
import { type KubeNamespace, type Labels, selects } from "./kubernetes.ts";

/** As Kubernetes reads it. An operator that does not exist selects nothing. */
export function matchesSelector(selector: LabelSelector, labels: Labels): boolean {
  if (!selects(selector.matchLabels ?? {}, labels)) return false;
  return (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
    const value = labels[key];
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
  });
}

/** Labels of a namespace, with the one that an API server gives to every namespace. */
export function namespaceLabels(name: string, namespace: KubeNamespace | undefined): Labels {
  return { ...namespace?.metadata?.labels, "kubernetes.io/metadata.name": name };
}

/** Whether objects of the namespace are part of the mesh. */
export function isDiscovered(name: string, namespace: KubeNamespace | undefined, settings: MeshSettings): boolean {
  const { discoverySelectors } = settings;
  if (discoverySelectors.length === 0) return true;
  const labels = namespaceLabels(name, namespace);
  return discoverySelectors.some((selector) => matchesSelector(selector, labels));
}
