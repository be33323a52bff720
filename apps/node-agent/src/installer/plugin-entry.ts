import { DATAPLANE_MODE_LABEL } from "@tulle/base";
import type { InstallerConfig } from "./config.ts";
import { type JsonObject, PLUGIN_TYPE } from "./network-list.ts";

/** Our entry in the runtime's list of plugins, with upstream's fields (spec: control-plane §7.2; recordings: cni-conflist.json). */
export function pluginEntry({ runDir, releaseNamespace, excludedNamespaces }: InstallerConfig): JsonObject {
  return {
    type: PLUGIN_TYPE,
    name: PLUGIN_TYPE,
    ambient_enabled: true,
    cni_agent_run_dir: runDir,
    dns: {},
    enable_ambient_detection_retry: false,
    enablement_selectors: [
      { podSelector: { matchLabels: { [DATAPLANE_MODE_LABEL]: "ambient" } }, namespaceSelector: {} },
      {
        podSelector: { matchExpressions: [{ key: DATAPLANE_MODE_LABEL, operator: "NotIn", values: ["none"] }] },
        namespaceSelector: { matchLabels: { [DATAPLANE_MODE_LABEL]: "ambient" } },
      },
    ],
    exclude_namespaces: excludedNamespaces,
    ipam: {},
    native_nftables: true,
    plugin_log_level: "info",
    pod_namespace: releaseNamespace,
  };
}
