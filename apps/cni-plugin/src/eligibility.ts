import { type Labels, SIDECAR_STATUS_ANNOTATION } from "@tulle/base";
import { type EnablementSelector, isSelected } from "@tulle/base/enrolment";

/** What of a Pod decides whether it is enrolled. */
export interface PodObject {
  readonly metadata?: { readonly labels?: Labels; readonly annotations?: Readonly<Record<string, string>> };
  readonly spec?: { readonly hostNetwork?: boolean };
  readonly status?: { readonly phase?: string };
}

export interface NamespaceObject {
  readonly metadata?: { readonly labels?: Labels };
}

/** Whether the pod is to be in the mesh (spec: control-plane §1.1, §1.4). Excluded namespaces are the caller's matter. */
export function isEnrolled(
  pod: PodObject,
  namespace: NamespaceObject,
  selectors: readonly EnablementSelector[],
): boolean {
  if (pod.spec?.hostNetwork === true) return false;
  if (Object.hasOwn(pod.metadata?.annotations ?? {}, SIDECAR_STATUS_ANNOTATION)) return false;
  if (pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed") return false;
  return isSelected(selectors, pod.metadata?.labels, namespace.metadata?.labels);
}
