import type { LabelSelector } from "@tulle/base";
import type { InstallerConfig } from "./config.ts";
import { type JsonObject, PLUGIN_TYPE } from "./network-list.ts";

/** Our entry in the runtime's list of plugins, with upstream's fields (spec: control-plane §7.2; recordings: cni-conflist.json). */
export function pluginEntry({ runDir, releaseNamespace, excludedNamespaces, enablement }: InstallerConfig): JsonObject {
  return {
    type: PLUGIN_TYPE,
    name: PLUGIN_TYPE,
    ambient_enabled: true,
    cni_agent_run_dir: runDir,
    dns: {},
    enable_ambient_detection_retry: false,
    enablement_selectors: enablement.map(({ podSelector, namespaceSelector }) => ({
      podSelector: print(podSelector),
      namespaceSelector: print(namespaceSelector),
    })),
    exclude_namespaces: excludedNamespaces,
    ipam: {},
    native_nftables: true,
    plugin_log_level: "info",
    pod_namespace: releaseNamespace,
  };
}

/** Without the fields that say nothing, as an API server prints a selector. */
function print({ matchLabels = {}, matchExpressions = [] }: LabelSelector): JsonObject {
  return {
    ...(Object.keys(matchLabels).length > 0 && { matchLabels }),
    ...(matchExpressions.length > 0 && { matchExpressions }),
  };
}
