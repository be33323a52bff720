import { type Log, MESH_CONFIG_KEY, MESH_CONFIG_MAP } from "@tulle/base";
import { DEFAULT_MESH_SETTINGS, parseMeshConfig } from "@tulle/mesh/convert";
import { CONFIG_MAP, type ConfigMap, type Store, type Watch } from "@tulle/store";

/**
 * Follows in which namespace policies of the whole mesh live: MeshConfig's `rootNamespace`, the mesh's own until it says
 * another. As in the control plane one that cannot be used, or is gone, leaves the last.
 */
export function watchRootNamespace(options: {
  readonly store: Pick<Store, "watch">;
  /** Where the ConfigMap lives. */
  readonly systemNamespace: string;
  readonly onChange: (rootNamespace: string) => void;
  readonly log: Log;
}): Watch<ConfigMap> {
  const { store, systemNamespace, onChange, log } = options;
  const base = { ...DEFAULT_MESH_SETTINGS, rootNamespace: systemNamespace, systemNamespace };
  let current = systemNamespace;
  const put = ({ data }: ConfigMap) => {
    const parsed = parseMeshConfig(data?.[MESH_CONFIG_KEY] ?? "", base);
    if (parsed.kind === "unusable") {
      log.warn("the configuration of the mesh is not used, the last good one stays", {
        error: parsed.problems.join("; "),
      });
      return;
    }
    const { rootNamespace } = parsed.config.settings;
    if (rootNamespace === current) return;
    current = rootNamespace;
    log.info("policies of the whole mesh live in another namespace now", { namespace: rootNamespace });
    onChange(rootNamespace);
  };
  const selection = { namespace: systemNamespace, fields: { "metadata.name": MESH_CONFIG_MAP } };
  return store.watch(CONFIG_MAP, { put, gone: () => {} }, selection);
}
