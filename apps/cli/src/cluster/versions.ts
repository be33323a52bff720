import { CONTROL_PLANE_MONITORING_PORT, messageOf } from "@tulle/base";
import { POD } from "@tulle/store";
import type { Cluster } from "../kube/cluster.ts";
import { podRequest } from "../kube/pod-http.ts";

/** Which versions run in a cluster, asked of the control plane (spec: control-plane §8.7). */

export interface MeshVersions {
  /** One per control plane that answers. */
  readonly controlPlanes: readonly { readonly name: string; readonly version: string }[];
  readonly proxies: readonly { readonly name: string; readonly version: string }[];
  /** Who did not answer, and why. */
  readonly problems: readonly string[];
}

export async function meshVersions(cluster: Cluster, namespace: string): Promise<MeshVersions> {
  const pods = (await cluster.store.list(POD, { namespace, labels: { app: "istiod" } })).filter(
    ({ status }) => status?.phase === "Running",
  );
  const controlPlanes: { name: string; version: string }[] = [];
  const proxies: { name: string; version: string }[] = [];
  const problems: string[] = [];
  for (const { metadata } of pods) {
    const pod = { namespace, name: metadata.name };
    const where = `control plane ${namespace}/${metadata.name}`;
    const ask = async (path: string) =>
      podRequest(await cluster.dial(pod, CONTROL_PLANE_MONITORING_PORT), "GET", path, where);
    try {
      controlPlanes.push({ name: metadata.name, version: versionOf((await ask("/version")).text) });
      const { status, text } = await ask("/debug/syncz");
      if (status === 200) proxies.push(...proxiesOf(text));
      else problems.push(`${where} does not tell its proxies: ${status} ${text.trim()}`);
    } catch (error) {
      problems.push(messageOf(error));
    }
  }
  return { controlPlanes, proxies: proxies.toSorted((a, b) => (a.name < b.name ? -1 : 1)), problems };
}

/** Plain text, or JSON of a build. */
export function versionOf(text: string): string {
  const trimmed = text.trim();
  if (!trimmed.startsWith("{")) return trimmed;
  try {
    const value = JSON.parse(trimmed) as { version?: string; clientVersion?: { version?: string } };
    return value.clientVersion?.version ?? value.version ?? "unknown";
  } catch {
    return "unknown";
  }
}

function proxiesOf(text: string): { name: string; version: string }[] {
  const list: unknown = JSON.parse(text);
  if (!Array.isArray(list)) return [];
  return (list as readonly { proxy?: string; istio_version?: string }[]).map(({ proxy = "", istio_version = "" }) => ({
    name: proxy,
    version: istio_version,
  }));
}
