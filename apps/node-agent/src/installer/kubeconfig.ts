import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { InstallerConfig } from "./config.ts";
import { modeOf, readIfThere, writeAtomic } from "./atomic-file.ts";

/** The plugin looks for it in the run folder. */
export const KUBECONFIG_NAME = "istio-cni-kubeconfig";

/** Writes the plugin's access to the API server when it is not there or the token is another one. True: it wrote. */
export async function writeKubeconfig(config: InstallerConfig): Promise<boolean> {
  const { runDir, serviceAccountDir, apiServer, kubeconfigMode } = config;
  const path = join(runDir, KUBECONFIG_NAME);
  const token = (await readFile(join(serviceAccountDir, "token"), "utf8")).trim();
  const ca = await readFile(join(serviceAccountDir, "ca.crt"));
  const wanted = kubeconfigOf(apiServer, ca, token);
  const there = await readIfThere(() => readFile(path, "utf8"));
  if (there === wanted && (await modeOf(path)) === kubeconfigMode) return false;
  await writeAtomic(path, wanted, kubeconfigMode);
  return true;
}

export function removeKubeconfig({ runDir }: InstallerConfig): Promise<void> {
  return rm(join(runDir, KUBECONFIG_NAME), { force: true });
}

/** JSON is YAML: kubectl reads it too, and the plugin needs no parser for it. */
function kubeconfigOf(server: string, ca: Uint8Array, token: string): string {
  const name = "istio-cni";
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name, cluster: { server, "certificate-authority-data": Buffer.from(ca).toString("base64") } }],
    users: [{ name, user: { token } }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    "current-context": name,
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}
