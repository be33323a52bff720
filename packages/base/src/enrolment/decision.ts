import type { Labels } from "../label-selector.ts";
import { SIDECAR_STATUS_ANNOTATION } from "../well-known.ts";
import { type EnablementSelector, isSelected } from "./selector.ts";

/** Whether a pod belongs into the mesh (spec: control-plane §1.1, §1.4): a pure function of pod, namespace and settings. */

/** What of a Pod decides. */
export interface EnrolmentPod {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Labels;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec?: { readonly hostNetwork?: boolean };
}

/** What of its Namespace decides. */
export interface EnrolmentNamespace {
  readonly metadata: { readonly labels?: Labels };
}

export interface EnrolmentSettings {
  readonly selectors: readonly EnablementSelector[];
  readonly excludeNamespaces: ReadonlySet<string>;
  /** Where the mesh's own pods are. */
  readonly systemNamespace: string;
}

export type Decision =
  | { readonly kind: "enrol" }
  /** `reason`: for people. */
  | { readonly kind: "leave"; readonly reason: string }
  /** Cannot be said yet: leave things as they are, let nothing new pass. */
  | { readonly kind: "unknown"; readonly reason: string };

/** Label of ztunnel's own pods. */
export const ZTUNNEL_APP = { key: "app", value: "ztunnel" } as const;
/** Name of the node agents' DaemonSet; its pods' names begin so. */
export const AGENT_NAME = "istio-cni-node";

/** `namespace`: the pod's, if it is known. */
export function decide(
  pod: EnrolmentPod,
  namespace: EnrolmentNamespace | undefined,
  settings: EnrolmentSettings,
): Decision {
  const home = pod.metadata.namespace ?? "";
  if (pod.spec?.hostNetwork === true) return leave("the pod uses the host's network");
  if (pod.metadata.annotations?.[SIDECAR_STATUS_ANNOTATION] !== undefined) return leave("the pod has a sidecar");
  if (settings.excludeNamespaces.has(home)) return leave(`namespace ${home} is excluded`);
  if (home === settings.systemNamespace && pod.metadata.labels?.[ZTUNNEL_APP.key] === ZTUNNEL_APP.value) {
    return leave("the pod is a ztunnel");
  }
  if (home === settings.systemNamespace && pod.metadata.name.startsWith(`${AGENT_NAME}-`)) {
    return leave("the pod is a node agent");
  }
  if (namespace === undefined) return { kind: "unknown", reason: `namespace ${home} is not known yet` };
  const selected = isSelected(settings.selectors, pod.metadata.labels, namespace.metadata.labels);
  return selected ? { kind: "enrol" } : leave("neither the pod nor its namespace asks for ambient mode");
}

function leave(reason: string): Decision {
  return { kind: "leave", reason };
}
