import { INSTALLATION_LABEL, VERSION_LABEL } from "@tulle/base";
import { VERSION } from "../../version.ts";
import type { InstallValues, StringMap, Tree } from "../value-fields.ts";

/** What all objects of an installation share. */

/** What the manifests are made from. */
export interface ManifestInput {
  readonly values: InstallValues;
  /** Release namespace. */
  readonly namespace: string;
}

/**
 * INSTALLATION_LABEL says which installation an object belongs to, by its namespace. What has it and is not made any more is
 * pruned; what lacks it is never touched by uninstall.
 */
export { INSTALLATION_LABEL, VERSION_LABEL };

export const ISTIOD = "istiod";
export const ZTUNNEL = "ztunnel";
export const NODE_AGENT = "istio-cni-node";
export const NODE_AGENT_ACCOUNT = "istio-cni";
/** No revisions yet: tools look for the default one. */
export const REVISION = "default";

/** Labels of an object of the part `name`. */
export function labelsOf(input: ManifestInput, name: string): StringMap {
  return {
    "app.kubernetes.io/name": name,
    "app.kubernetes.io/part-of": "istio",
    "app.kubernetes.io/managed-by": "tulle",
    [VERSION_LABEL]: VERSION,
    [INSTALLATION_LABEL]: input.namespace,
  };
}

/** Labels that keep a pod of ours out of the mesh. */
export const OUTSIDE_THE_MESH: StringMap = { "istio.io/dataplane-mode": "none", "sidecar.istio.io/inject": "false" };

export function image(input: ManifestInput, name: string): string {
  return `${input.values.hub}/${name}:${input.values.tag}`;
}

/** Fields that every container with an image has. */
export function pullPolicy(input: ManifestInput): Tree {
  const policy = input.values["global.imagePullPolicy"];
  return policy === "" ? {} : { imagePullPolicy: policy };
}

export function pullSecrets(input: ManifestInput): Tree {
  const names = input.values["global.imagePullSecrets"];
  return names.length === 0 ? {} : { imagePullSecrets: names.map((name) => ({ name })) };
}

/** Where scrapers find a pod's metrics. */
export function scrape(port: number, path?: string): StringMap {
  return {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": String(port),
    ...(path === undefined ? {} : { "prometheus.io/path": path }),
  };
}

export interface EnvVar extends Tree {
  readonly name: string;
}

/** Environment variables in the order given; those of `own` replace others of the same name. Undefined: left out. */
export function environment(
  given: readonly (readonly [name: string, value: string | Tree | undefined])[],
  own: StringMap,
): EnvVar[] {
  const byName = new Map<string, EnvVar>();
  for (const [name, value] of given) {
    if (typeof value === "string") byName.set(name, { name, value });
    else if (value !== undefined) byName.set(name, { name, valueFrom: value });
  }
  for (const [name, value] of Object.entries(own).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    byName.set(name, { name, value });
  }
  return [...byName.values()];
}

/** Value of an environment variable out of the pod itself. */
export function podField(fieldPath: string): Tree {
  return { fieldRef: { apiVersion: "v1", fieldPath } };
}

/** Placement of a pod; empty settings are left out. */
export function placement(settings: { readonly [key in "nodeSelector" | "affinity"]?: Tree }): Tree {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => Object.keys(value).length > 0));
}

/** Pods that must run on every node, whatever its taints. */
export const EVERYWHERE: readonly Tree[] = [
  { effect: "NoSchedule", operator: "Exists" },
  { key: "CriticalAddonsOnly", operator: "Exists" },
  { effect: "NoExecute", operator: "Exists" },
];

/** In front of every other pod in case of need; exists in every cluster. */
export const CRITICAL = "system-node-critical";
