import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster } from "./cluster.ts";
import { startTime } from "./cluster-space.ts";
import { type ClusterSettings, clusterSettings, clustersRoot } from "./settings.ts";

/** The cluster of that name as it was brought up, with the number of nodes that it has. */
export function existingCluster(settings: ClusterSettings = clusterSettings()): Cluster {
  try {
    const saved = JSON.parse(readFileSync(join(settings.folder, "settings.json"), "utf8")) as ClusterSettings;
    return new Cluster({ ...settings, nodes: saved.nodes });
  } catch {
    // None is there: what is asked of it will say so.
    return new Cluster(settings);
  }
}

/** Takes down the clusters whose owner has ended without doing so. Returns their names. */
export async function removeAbandoned(): Promise<string[]> {
  const names = existsSync(clustersRoot()) ? readdirSync(clustersRoot()) : [];
  const abandoned = names.filter((name) => {
    const file = join(clustersRoot(), name, "owner");
    if (!existsSync(file)) return false;
    const [pid = "", start = ""] = readFileSync(file, "utf8").split(" ");
    return startTime(Number(pid)) !== start;
  });
  for (const name of abandoned) await existingCluster(clusterSettings({ name })).down();
  return abandoned;
}
