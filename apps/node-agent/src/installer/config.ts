import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { parse } from "yaml";
import {
  DEFAULT_ENABLEMENT,
  type EnablementSelector,
  readEnablement,
  readExcludedNamespaces,
} from "@tulle/base/enrolment";
import { hostPathOf } from "./host-path.ts";

/** Where the CNI plugin goes and what its entry says. Paths are as the node agent's container sees them, unless called host's. */
export interface InstallerConfig {
  /** MOUNTED_CNI_BIN_DIR; default `/host/opt/cni/bin`. */
  readonly binDir: string;
  /** HOST_CNI_BIN_DIR: the same folder on the host; the plugin is started from there. Default: found out, else `/opt/cni/bin`. */
  readonly hostBinDir: string;
  /** MOUNTED_CNI_NET_DIR; default `/host/etc/cni/net.d`. */
  readonly confDir: string;
  /** CNI_CONF_NAME: the only file to change. Default: the first valid one. */
  readonly confName: string | undefined;
  /** CNI_AGENT_RUN_DIR: the same path in the container and on the host. Default `/var/run/istio-cni`. */
  readonly runDir: string;
  /** KUBECONFIG_MODE, octal; default 0600. */
  readonly kubeconfigMode: number;
  /** What the image brings: `istio-cni.js` and `runtime.json`. */
  readonly pluginFolder: string;
  /** Files `token` and `ca.crt`. */
  readonly serviceAccountDir: string;
  /** `https://10.96.0.1:443`, from KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT. */
  readonly apiServer: string;
  /** POD_NAMESPACE or SYSTEM_NAMESPACE: pods of this namespace pass without asking. */
  readonly releaseNamespace: string;
  /** EXCLUDE_NAMESPACES, comma list; default `kube-system`. */
  readonly excludedNamespaces: readonly string[];
  /** AMBIENT_ENABLEMENT_SELECTOR, as the agent reads it: which pods may not start while there is no agent. */
  readonly enablement: readonly EnablementSelector[];
}

const DEFAULT_BIN_DIR = "/host/opt/cni/bin";
const DEFAULT_HOST_BIN_DIR = "/opt/cni/bin";
const DEFAULT_CONF_DIR = "/host/etc/cni/net.d";
const DEFAULT_RUN_DIR = "/var/run/istio-cni";
const PLUGIN_FOLDER = "/app/cni";
const SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount";
/** The token is as good as the agent's account: nobody but root reads it. */
const DEFAULT_KUBECONFIG_MODE = "0600";

/** Throws an Error that names the variable. */
export function readInstallerConfig(
  environment: Readonly<Record<string, string | undefined>>,
  read: (file: string) => string = (file) => readFileSync(file, "utf8"),
): InstallerConfig {
  const text = (name: string) => ((environment[name] ?? "") === "" ? undefined : environment[name]);
  const binDir = text("MOUNTED_CNI_BIN_DIR") ?? DEFAULT_BIN_DIR;
  const mode = text("KUBECONFIG_MODE") ?? DEFAULT_KUBECONFIG_MODE;
  if (!/^0?[0-7]{3}$/.test(mode)) throw new Error(`KUBECONFIG_MODE is ${mode}: give an octal mode such as 0600`);
  const releaseNamespace = text("POD_NAMESPACE") ?? text("SYSTEM_NAMESPACE");
  if (releaseNamespace === undefined)
    throw new Error("POD_NAMESPACE is not set: the namespace in which the node agent runs");
  const selectors = text("AMBIENT_ENABLEMENT_SELECTOR");
  const hostBinDir = text("HOST_CNI_BIN_DIR") ?? hostPathOf(binDir, read) ?? DEFAULT_HOST_BIN_DIR;
  if (!hostBinDir.startsWith("/")) throw new Error(`HOST_CNI_BIN_DIR is ${hostBinDir}: give an absolute path`);
  return {
    binDir,
    hostBinDir,
    confDir: text("MOUNTED_CNI_NET_DIR") ?? DEFAULT_CONF_DIR,
    confName: text("CNI_CONF_NAME"),
    runDir: text("CNI_AGENT_RUN_DIR") ?? DEFAULT_RUN_DIR,
    kubeconfigMode: Number.parseInt(mode, 8),
    pluginFolder: PLUGIN_FOLDER,
    serviceAccountDir: SERVICE_ACCOUNT_DIR,
    apiServer: apiServerOf(text("KUBERNETES_SERVICE_HOST"), text("KUBERNETES_SERVICE_PORT") ?? "443"),
    releaseNamespace,
    excludedNamespaces: [...readExcludedNamespaces(text("EXCLUDE_NAMESPACES"))],
    enablement: selectors === undefined ? DEFAULT_ENABLEMENT : readEnablement(parse(selectors)),
  };
}

function apiServerOf(host: string | undefined, port: string): string {
  if (host === undefined) throw new Error("KUBERNETES_SERVICE_HOST is not set: the installer runs in a pod");
  return `https://${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}
