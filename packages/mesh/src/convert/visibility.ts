import { matchesSelector } from "@tulle/base";
import type { MeshSettings, Visibility } from "./context.ts";
import type { KubeNamespace, KubeService } from "./kubernetes.ts";
import { namespaceOf } from "./kubernetes.ts";
import { namespaceLabels } from "./label-selector.ts";

/** Who sees the ServiceEntries of a namespace (MeshConfig.serviceEntryVisibility). */
export function entryVisibility(
  name: string,
  namespace: KubeNamespace | undefined,
  settings: MeshSettings,
): Visibility {
  const { serviceEntryVisibility } = settings;
  if (serviceEntryVisibility === undefined) return "PUBLIC";
  const labels = namespaceLabels(name, namespace);
  const decisive = serviceEntryVisibility.policies.find(({ matchingRules }) =>
    matchingRules.every(({ namespaceSelector }) => matchesSelector(namespaceSelector, labels)),
  );
  return decisive?.visibility ?? serviceEntryVisibility.defaultVisibility;
}

/** Whether a service is meant for other clusters, too (MeshConfig.serviceScopeConfigs). ServiceEntries never are. */
export function serviceScope(
  service: KubeService,
  namespace: KubeNamespace | undefined,
  settings: MeshSettings,
): "LOCAL" | "GLOBAL" {
  const ofNamespace = namespaceLabels(namespaceOf(service), namespace);
  const global = settings.serviceScopeConfigs.some(({ namespaceSelector, servicesSelector, scope }) => {
    if (scope !== "GLOBAL" || !matchesSelector(namespaceSelector ?? {}, ofNamespace)) return false;
    return matchesSelector(servicesSelector ?? {}, service.metadata?.labels ?? {});
  });
  return global ? "GLOBAL" : "LOCAL";
}
