import { CniError } from "./cni-error.ts";
import { DEFAULT_ENABLEMENT, type EnablementSelector } from "@tulle/base/enrolment";
import { selectorsFrom } from "./selectors.ts";

/** The entry of type istio-cni in a list of plugins, as the runtime hands it over on standard input (spec: control-plane §7.2). */
export interface NetworkConfig {
  readonly cniVersion: string;
  /** What the plugins before this one made; handed on unchanged. */
  readonly prevResult: Readonly<Record<string, unknown>> | undefined;
  /** Folder of the agent's socket and of the kubeconfig, on the host. */
  readonly runDir: string;
  /** Where the mesh is installed: its own pods are never enrolled. */
  readonly releaseNamespace: string | undefined;
  readonly excludedNamespaces: readonly string[];
  readonly selectors: readonly EnablementSelector[];
}

/** CHECK came with 0.4.0, GC and STATUS with 1.1.0; the results of all have the same shape. */
export const SUPPORTED_VERSIONS = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/** What the specification says of a configuration that names no version. */
const ASSUMED_VERSION = "0.1.0";
const DEFAULT_RUN_DIR = "/var/run/istio-cni";
const DEFAULT_EXCLUDED = ["kube-system"];
const REINSTALL = "the node agent writes this entry; restart its pod on this node to have it written anew";

/** Throws CniError: decodeFailure, invalidConfig or incompatibleVersion. */
export function parseNetworkConfig(text: string): NetworkConfig {
  const config = parseObject(text);
  const cniVersion = versionOf(text);
  if (!SUPPORTED_VERSIONS.includes(cniVersion)) {
    throw new CniError(
      "incompatibleVersion",
      `istio-cni: the network configuration has cniVersion ${cniVersion}`,
      `supported are ${SUPPORTED_VERSIONS.join(", ")}: change cniVersion in the primary plugin's file`,
    );
  }
  const prevResult = config.prevResult ?? undefined;
  if (prevResult !== undefined && !isObject(prevResult)) throw invalid("prevResult is no object");
  return {
    cniVersion,
    prevResult,
    runDir: textField(config, "cni_agent_run_dir") ?? DEFAULT_RUN_DIR,
    releaseNamespace: textField(config, "pod_namespace"),
    excludedNamespaces: listField(config, "exclude_namespaces") ?? DEFAULT_EXCLUDED,
    selectors: selectorsOf(config.enablement_selectors ?? undefined),
  };
}

/** The version in which to answer, even when the rest is not understood. */
export function versionOf(text: string): string {
  try {
    const { cniVersion } = parseObject(text);
    return typeof cniVersion === "string" && cniVersion !== "" ? cniVersion : ASSUMED_VERSION;
  } catch {
    // Not even JSON: the caller finds that out itself.
    return ASSUMED_VERSION;
  }
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CniError("decodeFailure", `istio-cni: the network configuration is no JSON: ${reason}`, REINSTALL);
  }
  if (!isObject(value)) {
    throw new CniError("decodeFailure", "istio-cni: the network configuration is no JSON object", REINSTALL);
  }
  return value;
}

function selectorsOf(value: unknown): readonly EnablementSelector[] {
  const selectors = value === undefined ? DEFAULT_ENABLEMENT : selectorsFrom(value);
  if (selectors === undefined) throw invalid("enablement_selectors is no list of label selectors");
  return selectors;
}

function textField(config: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = config[name] ?? undefined;
  if (value !== undefined && typeof value !== "string") throw invalid(`${name} is no string`);
  return value === "" ? undefined : value;
}

function listField(config: Readonly<Record<string, unknown>>, name: string): readonly string[] | undefined {
  const value = config[name] ?? undefined;
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string"))
    throw invalid(`${name} is no list of strings`);
  return value;
}

function invalid(what: string): CniError {
  return new CniError("invalidConfig", `istio-cni: in the network configuration ${what}`, REINSTALL);
}
