import { matchesSelector } from "@tulle/base";
import type { MeshSettings } from "./context.ts";
import type { KubeNamespace, Labels } from "./kubernetes.ts";

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
